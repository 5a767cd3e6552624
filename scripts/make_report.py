"""Makes report.html of one run, or one that compares several.

    python scripts/make_report.py FOLDER                         of one run, into its folder
    python scripts/make_report.py outputs --output compare.html  of all runs below a folder
    python scripts/make_report.py FOLDER FOLDER FOLDER           into report.html here

A FOLDER is that of a run, or holds runs. The report is one file that needs neither network nor data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _collected import runs_below

from layerwise.cli import reported
from layerwise.report.page import write_report
from layerwise.run_folder import REPORT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a run, or one that holds runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {REPORT}, of one run in its folder")
    options = parser.parse_args()
    runs = list({folder.resolve(): folder for _, folder in runs_below(options.folders)}.values())  # each once
    output = options.output or (runs[0] if len(runs) == 1 else Path()) / REPORT
    write_report(runs, output)
    print(f"report: {output}")


if __name__ == "__main__":
    with reported():
        main()
