"""Writes report.html of one run, or a report that compares several.

    layerwise report FOLDER                         one run, into its folder
    layerwise report outputs --output compare.html  all runs below a folder
    layerwise report FOLDER FOLDER FOLDER           several runs, into report.html here

A FOLDER is a run folder, or a folder with runs below it. Among several runs, one that cannot be read is left out with a
warning. The report is one file; it needs neither the network nor the data set.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from layerwise.analysis.collecting import runs_below
from layerwise.commands.arguments import Parser, named
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.reporting.html.page import render
from layerwise.reporting.html.reported_run import Costs, ReportedRun, read_run
from layerwise.runs.run_files import REPORT


def main(words: Sequence[str]) -> None:
    parser = Parser("report", __doc__)
    parser.add_argument("folders", nargs="+", type=named, metavar="FOLDER", help="of a run, or one that holds runs")
    parser.add_argument("--output", type=named, metavar="FILE", help=f"default: {REPORT}, of one run in its folder")
    parser.add_trust()
    options = parser.parse_args(words)
    runs = list({folder.resolve(): folder for _, folder in runs_below(options.folders)}.values())  # each once
    output = options.output or (runs[0] if len(runs) == 1 else Path()) / REPORT
    write_atomically(output, render(readable(runs, options.trust)), kept="The runs are intact.")
    print(f"report: {output}")


def readable(folders: Sequence[Path], trust: bool = False) -> list[ReportedRun]:
    """Reads run folders; leaves out, with a warning, those that cannot be read, such as one that has only just begun.

    Raises:
        LayerwiseError: none can.
    """
    reported, problems, known = [], [], Costs()
    for folder in folders:
        try:
            reported.append(read_run(folder, trust=trust, known=known))
        except LayerwiseError as error:
            named = str(folder) in str(error)
            problems.append(error if named else LayerwiseError(f"{folder}: {error}"))
    if not reported:
        raise problems[0]
    bare = [run.name for run in reported if not trust and run.anatomy is None and run.config.outside]
    if bare:
        print(
            f"note: {', '.join(bare)}: without costs and filters, for which code of another package must be imported: "
            "use --trust if you trust the run folders.",
            file=sys.stderr,
        )
    for problem in problems:
        print(f"warning: a run is left out: {problem}", file=sys.stderr)
    return reported
