"""Pictures of a report, in its light and its dark theme, as the README shows them.

    python scripts/screenshot_report.py REPORT.html                    into docs/figures
    python scripts/screenshot_report.py REPORT.html --output FOLDER

Needs playwright (`pip install playwright`) and Chromium (on Debian `apt install chromium`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _browser import open_report
from _runs import ROOT

from layerwise.commands.errors import reported
from layerwise.core.errors import LayerwiseError

WIDTH, HEIGHT = 1040, 1290
"""In pixels: down to the first plot of a comparison of four runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, metavar="REPORT.html")
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=ROOT / "docs" / "figures")
    options = parser.parse_args()
    if not options.report.is_file():
        raise LayerwiseError(f"{options.report}: no such file. scripts/make_report.py makes one.")
    for theme in ("light", "dark"):
        with open_report(options.report, theme, WIDTH, HEIGHT) as page:
            path = options.output / f"report_{theme}.png"
            page.screenshot(path=path)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    with reported():
        main()
