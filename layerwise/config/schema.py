"""The schema of the configuration: typed dataclasses that mirror the files of `conf/`.

null (None) means the paper's value for this k and data set; `resolve.resolve` fills it in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from layerwise.config.networks.base import Choices, NetworkConfig
from layerwise.config.networks.simcnn import SimCnnConfig
from layerwise.config.outside import Outside
from layerwise.core.choices import PrecisionName
from layerwise.data.choices import Border, Flip, Task, ValidationSplit
from layerwise.features.choices import FeatureDtype
from layerwise.models.choices import EnsembleOn
from layerwise.training.choices import LossName

WHERE = {"identity": False}
"""Marks fields that say where or how fast a run computes, not what: they do not name its folder."""


class Plan(Enum):
    """Values of `plan`."""

    greedy = "greedy"
    joint = "joint"
    simultaneous = "simultaneous"
    autoencoder = "autoencoder"
    own = "own"


class HeadStart(Enum):
    """Values of `plan.head`: what a new depth's head begins as."""

    fresh = "fresh"
    carried = "carried"
    frozen = "frozen"


class OptimizerKind(Enum):
    """Values of `optimizer`."""

    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"
    timm = "timm"


class Unreadable(Enum):
    """Values of `dataset.unreadable`."""

    fatal = "fatal"
    skip = "skip"


class CacheKind(Enum):
    """Values of `cache`."""

    none = "none"
    memory = "memory"
    disk = "disk"
    auto = "auto"


class ScheduleName(Enum):
    """Values of `optimizer.schedule`."""

    step = "step"
    cosine = "cosine"
    onecycle = "onecycle"
    constant = "constant"


class Summary(Enum):
    """Values of `summary`."""

    none = "none"
    table = "table"
    json = "json"


class WandbMode(Enum):
    """Values of `logger.wandb.mode`."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


class Parallel(Enum):
    """Values of `distributed.parallel`: what each process of a run has a part of, the batch or the blocks."""

    data = "data"
    blocks = "blocks"


class ProgressName(Enum):
    """Values of `progress`."""

    auto = "auto"
    off = "off"


@dataclass
class DatasetConfig:
    """`dataset=…`; `size`, `workers`, `unreadable` and `exif` are for image files, the keys behind for tables.

    `test` is also for image folders without val/.
    """

    name: str = MISSING
    root: str = field(default="data", metadata=WHERE)
    validation: float = 0.0
    validation_split: ValidationSplit = ValidationSplit.random
    folds: int | None = None
    fold: int = 1
    labelled: float = 1.0
    class_weights: Any = None  # "balanced" or a list of numbers
    standardise: bool = True
    limit: int | None = None
    limit_test: int | None = None
    augment: bool = True
    flip: Flip = Flip.random
    cutout: int = 0
    padding: int | None = None
    border: Border = Border.black
    fresh_views: bool = False
    size: int | None = None
    workers: int | None = field(default=None, metadata=WHERE)
    unreadable: Unreadable = Unreadable.fatal
    exif: bool = False
    path: str | None = None
    task: Task = Task.classification
    label: str | None = None
    test_path: str | None = None
    test: float = 0.2
    separator: str | None = None
    columns: list[str] | None = None
    drop: list[str] = field(default_factory=list)
    missing: list[str] | None = None


@dataclass
class FinetuneConfig:
    """Stages that train all blocks of the grown network together."""

    epochs: int = 0
    autoencoder_epochs: int = 0
    lr: float | None = None


@dataclass
class PlanConfig:
    """`plan=greedy|joint|simultaneous|autoencoder`."""

    name: Plan = Plan.greedy
    epochs: int | None = None
    blocks_per_stage: int = 1
    head: HeadStart = HeadStart.fresh
    warm_start: bool = False
    classifier_epochs: int | None = None
    max_blocks: int | None = None
    patience: int | None = None
    search_fraction: float | None = None
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    prune_to: int | None = None
    prune_epochs: int = 20
    prune_rounds: int = 1
    last_head_width: int | None = None
    frozen_blocks: int = 0
    reuse: str | None = field(default=None, metadata=WHERE)


@dataclass
class CacheConfig:
    """`cache=none|memory|disk|auto`."""

    kind: CacheKind = MISSING
    views: Any = "epochs"  # a number or "epochs"
    dtype: FeatureDtype | None = None
    dir: str | None = field(default=None, metadata=WHERE)
    budget_gb: float | None = field(default=None, metadata=WHERE)
    keep: bool = field(default=False, metadata=WHERE)


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
    norm_decay: bool = True
    restart_momentum: bool = True
    clip_norm: float | None = None
    average: float = 0.0


@dataclass
class ObjectiveConfig:
    """What a stage minimises."""

    loss: LossName | None = None
    reconstruction: LossName = LossName.squared_error
    label_smoothing: float = 0.0
    similarity: float = 0.99
    l1: float = 0.0
    l2: float = 0.0
    single_logit: bool = False


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


@dataclass
class WandbConfig:
    """`logger=wandb`, which turns it on by its mode."""

    mode: WandbMode = WandbMode.disabled
    project: str = "layerwise"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    artifacts: bool = False


@dataclass
class TensorBoardConfig:
    """`logger=tensorboard`, which turns it on."""

    enabled: bool = False


@dataclass
class LoggerConfig:
    """`logger=none|wandb|tensorboard` or a list: what else shows the files of the run folder."""

    wandb: WandbConfig = field(default_factory=WandbConfig)
    tensorboard: TensorBoardConfig = field(default_factory=TensorBoardConfig)


@dataclass
class SlurmConfig:
    """What a job of `--multirun hydra/launcher=slurm` gets."""

    name: str = "layerwise"
    partition: str | None = None
    account: str | None = None
    gpus: int = 0
    cpus: int = 4
    memory_gb: int | None = None
    minutes: int = 1440
    parallel: int = 16


@dataclass
class Config:
    """All keys of `layerwise train`; conf/train.yaml explains them."""

    k: int = 3
    J: int | None = None
    epochs: int | None = field(default=None, metadata=WHERE)  # plan.epochs says what became of it
    batch_size: int | None = None
    seed: int = 0
    precision: PrecisionName = PrecisionName.auto
    device: str = field(default="auto", metadata=WHERE)
    compile: bool = False
    name: str | None = field(default=None, metadata=WHERE)
    output_dir: str = field(default="outputs", metadata=WHERE)
    fresh: bool = field(default=False, metadata=WHERE)
    summary: Summary = field(default=Summary.none, metadata=WHERE)
    progress: ProgressName = field(default=ProgressName.auto, metadata=WHERE)
    report: bool = field(default=True, metadata=WHERE)
    debug: bool = field(default=False, metadata=WHERE)
    model: NetworkConfig = field(default_factory=SimCnnConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig, metadata=WHERE)
    slurm: SlurmConfig = field(default_factory=SlurmConfig, metadata=WHERE)
    outside: dict[str, Any] = field(default_factory=dict, metadata={"identity": False, "is_key": False})
    """By place, the functions of other packages (`Outside`) that `parse` finds at `_target_`; no key."""

    def function(self, place: str) -> Outside | None:
        return self.outside.get(place)

    @property
    def joint(self) -> bool:
        """Whether all blocks are trained end to end."""
        return self.plan.name is Plan.joint

    @property
    def choices(self) -> Choices:
        """What the network depends on beside its own keys."""
        J, key = (self.J, "J") if self.plan.max_blocks is None else (self.plan.max_blocks, "plan.max_blocks")
        return Choices(self.k, J, key, self.dataset.name, self.plan.name.value, self.joint, self.function("model"))

    @property
    def grows(self) -> bool:
        """Whether the network grows block by block, until its depth is chosen."""
        return self.plan.name in (Plan.greedy, Plan.autoencoder)
