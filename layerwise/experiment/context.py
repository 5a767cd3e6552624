"""What all stages of a run share."""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.config.resolved import ResolvedConfig
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.data.dataset import Dataset
from layerwise.models.blocknet import BlockNet
from layerwise.reporting.loggers.base import Loggers
from layerwise.reporting.terminal import Display
from layerwise.runs.checkpoints import Checkpoints
from layerwise.runs.metrics import Metrics
from layerwise.training.plan import Agenda


@dataclass(frozen=True)
class Run:
    """The objects that a configuration was built into, and where the run is recorded."""

    config: ResolvedConfig
    agenda: Agenda
    network: BlockNet
    data: Dataset
    precision: Precision
    checkpoints: Checkpoints
    metrics: Metrics
    loggers: Loggers
    display: Display
    stop: StopRequest
