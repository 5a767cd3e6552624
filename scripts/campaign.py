"""Gives the program hostile inputs and judges how it ends: one message that names the cause, no traceback, no hang.

    scripts/campaign.py configurations --count 2000     random bad configurations from a grammar over the schema
    scripts/campaign.py kills                           kills of a small run before each of its file operations
    scripts/campaign.py damages                         random damages of the files of a run folder

Counts go to stdout, with each fault and what reproduces it. The exit code is 1 if there are faults.
docs/reliability.md states what the campaigns guarantee.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

from _campaign_judging import Tally

CAMPAIGNS = {"configurations": 2000, "kills": 400, "damages": 300}
"""Names, each the module `_campaign_NAME` with `run(count, seed) -> Tally`, and how many inputs they try by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--count", type=int, metavar="N", help="number of inputs")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    options = parser.parse_args()
    run: Callable[[int, int], Tally] = import_module(f"_campaign_{options.campaign}").run
    tally = run(options.count or CAMPAIGNS[options.campaign], options.seed)
    print(tally.report())
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
