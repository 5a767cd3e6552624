"""The configuration of how a stage is trained and scored: `optimizer`, `checkpoint`, …, `distributed`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from layerwise.config.groups import WHERE
from layerwise.models.choices import EnsembleOn


class OptimizerKind(Enum):
    """Values of `optimizer`."""

    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"
    timm = "timm"


class ScheduleName(Enum):
    """Values of `optimizer.schedule`."""

    step = "step"
    cosine = "cosine"
    onecycle = "onecycle"
    constant = "constant"


class Keep(Enum):
    """Values of `checkpoint.keep`: the epoch of a stage whose weights are kept, `best` by the validation samples."""

    last = "last"
    best = "best"


class Parallel(Enum):
    """Values of `distributed.parallel`: what each process of a run has a part of, the batch or the blocks."""

    data = "data"
    blocks = "blocks"


@dataclass
class OptimizerConfig:
    """`optimizer=sgd|adam|adamw|timm`."""

    kind: OptimizerKind = OptimizerKind.sgd
    name: str | None = None
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    epsilon: float | None = None
    nesterov: bool = False
    schedule: ScheduleName = ScheduleName.step
    decay: float | None = None
    decay_every: float | None = None
    decay_at: list[float] | None = None  # in place of decay_every
    warmup: float = 0.25
    final: float = 0.0
    start: float = 0.04
    shift_lr: float = 1.0
    muon_lr: float | None = None
    norm_decay: bool = True
    restart_momentum: bool = True
    clip_norm: float | None = None
    average: float = 0.0


@dataclass
class CheckpointConfig:
    """Which epoch of a stage the next stages, and the result, begin from."""

    keep: Keep = Keep.last


@dataclass
class ObjectiveConfig:
    """What a stage minimises; losses are those of `training.choices.LOSSES`."""

    loss: str | None = None
    reconstruction: str = "squared_error"
    label_smoothing: float = 0.0
    similarity: float = 0.99
    l1: float = 0.0
    l2: float = 0.0
    single_logit: bool = False
    head_weights: Any = None  # a number or a list of numbers
    decoder_weights: list[float] = field(default_factory=lambda: [5.0, 0.2])
    label_weights: list[float] = field(default_factory=lambda: [0.05, 0.5])
    transport: float | None = None


@dataclass
class EnsembleConfig:
    """The 2^j ensemble."""

    on: EnsembleOn | None = None


@dataclass
class EvaluationConfig:
    """What is scored beside the held-out sets at the end of each stage, and when else."""

    every: int = field(default=0, metadata=WHERE)
    gradients: bool = False
    train: bool = False
    mirror: bool = False


@dataclass
class DistributedConfig:
    """How several processes share a run; see `layerwise.core.distributed`."""

    parallel: Parallel = field(default=Parallel.data, metadata=WHERE)
    sync_batchnorm: bool = True
    timeout: float = field(default=600.0, metadata=WHERE)
