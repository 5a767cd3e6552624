"""What all stages of a run share."""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.checkpoint import Checkpoints
from layerwise.data import Dataset
from layerwise.interrupt import StopRequest
from layerwise.loggers.base import Loggers
from layerwise.models.blocknet import BlockNet
from layerwise.plan import Agenda
from layerwise.precision import Precision
from layerwise.progress import Display
from layerwise.record import Metrics
from layerwise.schema import Config


@dataclass(frozen=True)
class Run:
    """The objects that a configuration was built into, and where the run is recorded."""

    config: Config
    agenda: Agenda
    network: BlockNet
    data: Dataset
    precision: Precision
    checkpoints: Checkpoints
    metrics: Metrics
    loggers: Loggers
    display: Display
    stop: StopRequest
