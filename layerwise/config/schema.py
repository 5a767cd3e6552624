"""The schema of the configuration: typed dataclasses that mirror the files of `conf/`; the groups are in `groups/`.

null (None) means the paper's value for this k and data set; `resolve.resolve` fills it in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from layerwise.config.datasets.base import DatasetConfig
from layerwise.config.datasets.images import TorchvisionConfig
from layerwise.config.groups import WHERE
from layerwise.config.groups.data import CacheConfig
from layerwise.config.groups.outputs import LoggerConfig, ProgressName, SlurmConfig, Summary
from layerwise.config.groups.training import (
    CheckpointConfig,
    DistributedConfig,
    EnsembleConfig,
    EvaluationConfig,
    ObjectiveConfig,
    OptimizerConfig,
)
from layerwise.config.networks.base import Choices, NetworkConfig
from layerwise.config.networks.simcnn import SimCnnConfig
from layerwise.config.outside import Outside
from layerwise.config.plans.base import PlanConfig
from layerwise.config.plans.greedy import GreedyConfig
from layerwise.core.choices import PrecisionName


@dataclass
class Config:
    """All keys of `layerwise train`; conf/train.yaml explains them."""

    k: int = 3
    J: int | None = None
    epochs: int | None = field(default=None, metadata=WHERE)  # plan.epochs says what became of it
    batch_size: int | None = None
    accumulate: int = 1
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
    profile: bool = field(default=False, metadata=WHERE)
    debug: bool = field(default=False, metadata=WHERE)
    model: NetworkConfig = field(default_factory=SimCnnConfig)
    dataset: DatasetConfig = field(default_factory=TorchvisionConfig)
    plan: PlanConfig = field(default_factory=GreedyConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
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
    def choices(self) -> Choices:
        """What the network depends on beside its own keys."""
        J, key = (self.J, "J") if self.plan.max_blocks is None else (self.plan.max_blocks, "plan.max_blocks")
        return Choices(
            self.k,
            J,
            key,
            self.dataset.like_imagenet,
            self.plan.name,
            self.plan.whole,
            self.function("model"),
            "model.head" in self.outside,
        )
