"""Records a run while it goes on and when it ends: results.json, the loggers, report.html."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from layerwise.config.build import build_scoring
from layerwise.config.identity import as_plain
from layerwise.core import distributed
from layerwise.core.distributed import from_main
from layerwise.core.errors import Interrupted, LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.experiment.context import Run
from layerwise.experiment.results import assemble_results
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import total_parameters
from layerwise.reporting.html.reported_run import read_run
from layerwise.reporting.samples import keep_samples
from layerwise.runs.finished import FinishedStage
from layerwise.runs.metrics import finite, write_results
from layerwise.runs.run_files import ENDED_EARLY, REPORT, RESULTS, sealed

Errors = tuple[type[Exception], ...]


class Recorder:
    """Records a run. Its methods are called by all processes; the main process writes.

    Args:
        finished: its finished stages, a list that grows.
    """

    def __init__(self, run: Run, finished: Sequence[FinishedStage]) -> None:
        self._run, self._finished = run, finished
        self._folder = run.folder.path

    def begin(self) -> None:
        """Opens the logs, before the first stage is trained."""
        config = as_plain(self._run.config, but=("logger", "slurm"))
        self._run.loggers.begin(self._folder, config, self._run.facts)

    def stage(self) -> None:
        """Records a finished stage."""
        self._run.loggers.stage(from_main(lambda: self._write("running")))

    def completed(self) -> dict[str, Any]:
        """Records that all stages are finished, and returns the results."""
        self._keep_samples()  # first: a completed run does not read its data again
        results = from_main(lambda: self._write("completed", **self._details()))
        self._report()
        self._run.loggers.end(results)  # last: it may wait for a server
        return results

    def ended_early(self) -> dict[str, Any]:
        """Records that a search ended the run before its last stage, and returns the results."""
        depth = self._finished[-1].rows[-1]["block"]
        reason = f"the search ended it after block {depth}; layerwise train with its arguments trains the rest"
        results = from_main(lambda: self._write(ENDED_EARLY, error=reason))
        self._report()
        self._run.loggers.end(results)
        return results

    def stopped(self, error: LayerwiseError) -> None:
        """Records that an error ended the run, in this process at least. Not collective: others may be gone."""
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        with contextlib.suppress(LayerwiseError):  # the full disk that ended the run may refuse this, too
            if distributed.is_main():
                results = self._write(status, error=str(error))
                with contextlib.suppress(LayerwiseError):
                    self._report(fails=(LayerwiseError,))
                self._run.loggers.end(results)

    def close(self) -> None:
        """Closes the files, however the run ended."""
        self._run.metrics.close()
        self._run.loggers.end(None)

    def _write(self, status: str, **more: Any) -> dict[str, Any]:
        run, finished = self._run, self._finished
        run.folder.check_present()
        reported = [outcome.rows for outcome in finished]
        parameters = total_parameters(list(run.costs[: run.agenda.depth(reported)]))
        data = run.data.spec.title or run.data.spec.name
        results = assemble_results(run.config, self._folder.name, data, run.agenda, finished, parameters, status)
        operations = run.work.operations(run.stages_after(finished)[: len(finished)])
        results |= {"pflop": operations.in_pflop(), **run.facts, **more}
        origin = {"origin": run.folder.origin.as_plain()}
        write_results(self._folder / RESULTS, sealed(finite(results | origin)))
        return results

    def _details(self) -> dict[str, Any]:
        """Returns what else is said of the result's predictions of the test samples, such as a confusion matrix."""
        depth = self._run.agenda.depth([outcome.rows for outcome in self._finished])
        scores = [outcome.scores.get("test", {}) for outcome in reversed(self._finished)]
        z = next(by_depth[depth] for by_depth in scores if depth in by_depth)
        data = self._run.data
        return build_scoring(self._run.config, data.spec).details(z, data.labels["test"].cpu())

    def _keep_samples(self) -> None:
        if self._run.config.report and distributed.is_main():
            stages = self._run.stages_after(self._finished)
            with report_warnings(self._folder, self._run.display.warn):
                keep_samples(self._folder, self._run.data, stages, self._finished)

    def _report(self, fails: Errors = ()) -> None:
        if self._run.config.report and distributed.is_main():
            write_report(self._folder, self._run.display.warn, self._run.network, fails)


def write_report(
    folder: Path, warn: Callable[[str], None], network: BlockNet | None = None, fails: Errors = ()
) -> None:
    """Writes report.html of a run. Without `fails` it never fails the run.

    Args:
        folder: the run folder.
        warn: prints a warning.
        network: of the run, if it is at hand; else its checkpoints are read.
        fails: errors that are raised and not printed as warnings.
    """
    with report_warnings(folder, warn, fails):
        from layerwise.reporting.html.page import render  # slow to import

        page = render([read_run(folder, network, trust=True)])  # its configuration is that of the command
        write_atomically(folder / REPORT, page, "The run is intact.", makes_folder=False)


def has_report(folder: Path) -> bool:
    """Returns whether the report is not older than the results; a process may have been killed between the two."""
    try:
        return (folder / REPORT).stat().st_mtime >= (folder / RESULTS).stat().st_mtime
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def report_warnings(folder: Path, warn: Callable[[str], None], fails: Errors = ()) -> Iterator[None]:
    """Turns an error of any other kind into a warning: the run matters more than its report."""
    try:
        yield
    except fails:
        raise
    except Exception as error:
        warn(f"{folder / REPORT} could not be made: {error}")
