"""The report that a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from layerwise.finished import FinishedStage
from layerwise.report.run_record import read_record
from layerwise.report.samples import keep_samples
from layerwise.run import Run
from layerwise.run_folder import REPORT
from layerwise.storage import write_atomically


def report_run(folder: Path, run: Run, finished: Sequence[FinishedStage]) -> None:
    """Writes a run's `REPORT`, and for later ones the images that they show. It never fails the run.

    Args:
        folder: of the run; everything else is in it.
        run: in the main process.
        finished: its finished stages.
    """
    try:
        from layerwise.report.page import render  # imports what is needed here only

        stages = run.agenda.stages([outcome.rows for outcome in finished])
        if len(finished) == len(stages):
            keep_samples(folder, run.data, stages, finished)
        page = render([read_record(folder, run.network)])
        write_atomically(folder / REPORT, page, kept="The run is intact.")
    except Exception as error:  # whatever it is: the run matters more than its picture
        run.display.warn(f"{folder / REPORT} could not be made: {error}")
