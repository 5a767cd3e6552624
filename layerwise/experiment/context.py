"""The objects of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.config.resolved import ResolvedConfig
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.data.dataset import Dataset
from layerwise.features.cache_plan import CacheDecision
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import BlockCost
from layerwise.reporting.loggers.base import Loggers
from layerwise.reporting.terminal import Display
from layerwise.runs.checkpoints import Checkpoints
from layerwise.runs.finished import FinishedStage
from layerwise.runs.folder import RunFolder
from layerwise.runs.metrics import Metrics
from layerwise.training.operations import Workload
from layerwise.training.plan import Agenda, Stage

Judge = Callable[[Sequence[dict[str, Any]]], bool]
"""Whether a run goes on behind its finished depths, of which it is given the rows: a search may end a bad trial."""


@dataclass(frozen=True)
class Run:
    """What a configuration was built into, and where the run is recorded.

    Attributes:
        config: the resolved configuration.
        agenda: the stages, of which later ones may depend on the results of earlier ones.
        costs: cost of each block and its head, in the network as it will be in the end.
        work: numbers from which the run's operations are counted.
        facts: entries of results.json that are known before the training.
        loggers, display: what else shows the run; both are silent except in the main process.
    """

    config: ResolvedConfig
    folder: RunFolder
    agenda: Agenda
    network: BlockNet
    costs: Sequence[BlockCost]
    work: Workload
    data: Dataset
    precision: Precision
    cache: CacheDecision
    facts: Mapping[str, Any]
    checkpoints: Checkpoints
    metrics: Metrics
    loggers: Loggers
    display: Display
    stop: StopRequest

    def stages_after(self, finished: Sequence[FinishedStage]) -> list[Stage]:
        """Returns all stages of the run, from the first, as far as the finished ones decide them."""
        return self.agenda.stages([outcome.rows for outcome in finished])
