"""What a run leaves behind while it goes on and when it ends: results.json, what loggers show, report.html."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerwise.config.parse import as_plain
from layerwise.core import distributed
from layerwise.core.distributed import from_main
from layerwise.core.errors import Interrupted, LayerwiseError
from layerwise.experiment.context import Run
from layerwise.experiment.of_run import report_run
from layerwise.experiment.results import assemble_results
from layerwise.models.costs import BlockCost, total_parameters
from layerwise.runs.finished import FinishedStage
from layerwise.runs.folder import RESULTS
from layerwise.runs.metrics import write_results
from layerwise.training.classification import classification_report
from layerwise.training.operations import Workload


class Recorder:
    """Records one run.

    Args:
        run: the run.
        folder: of the run.
        finished: its finished stages, to which others add.
        costs: of all its blocks.
        work: what its operations are counted from.
        facts: that are added to the results.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        finished: Sequence[FinishedStage],
        costs: Sequence[BlockCost],
        work: Workload,
        facts: Mapping[str, Any],
    ) -> None:
        self._run, self._folder, self._finished, self._costs, self._facts = run, folder, finished, costs, facts
        self._work = work

    def begin(self) -> None:
        """Before the first stage that is left."""
        config = as_plain(self._run.config, but=("logger", "slurm"))
        self._run.loggers.begin(self._folder, config, self._facts, self._run.metrics.path)

    def stage(self) -> None:
        """A stage is finished."""
        self._run.loggers.stage(from_main(lambda: self._write("running")))

    def completed(self) -> dict[str, Any]:
        """All stages are finished; the results."""
        results = from_main(lambda: self._write("completed", classification=self._describe_classes()))
        self._report()
        self._run.loggers.end(results)  # last: it may wait for a server
        return results

    def stopped(self, error: LayerwiseError) -> None:
        """The run ends before its last stage does, in this process at least."""
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        with contextlib.suppress(LayerwiseError):  # the disk may be what failed
            if distributed.is_main():  # not all processes need be here
                results = self._write(status, error=str(error))
                self._report()
                self._run.loggers.end(results)

    def close(self) -> None:
        """Lets the files go, however the run ended."""
        self._run.metrics.close()
        self._run.loggers.end(None)

    def _write(self, status: str, **more: Any) -> dict[str, Any]:
        agenda, finished = self._run.agenda, self._finished
        reported = [outcome.rows for outcome in finished]
        parameters = total_parameters(list(self._costs[: agenda.depth(reported)]))
        results = assemble_results(self._run.config, self._folder.name, agenda, finished, parameters, status)
        operations = self._work.operations(agenda.stages(reported)[: len(finished)])
        results |= {"pflop": operations.in_pflop(), **self._facts, **more}
        write_results(self._folder / RESULTS, results)
        return results

    def _describe_classes(self) -> dict[str, Any]:
        """Confusion matrix and ROC curves of the result's class scores on the test samples."""
        depth = self._run.agenda.depth([outcome.rows for outcome in self._finished])
        scores = [outcome.scores.get("test", {}) for outcome in reversed(self._finished)]
        z = next(by_depth[depth] for by_depth in scores if depth in by_depth)
        data = self._run.data
        loss = self._run.config.objective.loss
        return classification_report(z, data.labels["test"].cpu(), data.spec.classes, loss)

    def _report(self) -> None:
        if self._run.config.report and distributed.is_main():
            report_run(self._folder, self._run, self._finished)
