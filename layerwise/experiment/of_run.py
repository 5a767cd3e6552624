"""The report that a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from layerwise.core.files import write_atomically
from layerwise.experiment.context import Run
from layerwise.reporting.html.reported_run import read_run
from layerwise.reporting.html.samples import keep_samples
from layerwise.runs.finished import FinishedStage
from layerwise.runs.folder import REPORT


def report_run(folder: Path, run: Run, finished: Sequence[FinishedStage]) -> None:
    """Writes a run's `REPORT`, and for later ones the images that they show. It never fails the run.

    Args:
        folder: of the run; everything else is in it.
        run: in the main process.
        finished: its finished stages.
    """
    try:
        from layerwise.reporting.html.page import render  # imports what is needed here only

        stages = run.agenda.stages([outcome.rows for outcome in finished])
        if len(finished) == len(stages):
            keep_samples(folder, run.data, stages, finished)
        page = render([read_run(folder, run.network)])
        write_atomically(folder / REPORT, page, kept="The run is intact.")
    except Exception as error:  # whatever it is: the run matters more than its picture
        run.display.warn(f"{folder / REPORT} could not be made: {error}")
