"""A configuration in which every value that a run needs is there: what `resolve.resolve` gives.

The classes narrow those of `schema`: a key that is null there until it is resolved has its own type here. What may
still be null means something by it (`plan.patience=null`: no patience).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from layerwise.config.groups import WHERE
from layerwise.config.groups.training import EnsembleConfig, ObjectiveConfig, OptimizerConfig
from layerwise.config.networks.base import ResolvedNetwork
from layerwise.config.plans.base import ResolvedPlan
from layerwise.config.schema import Config
from layerwise.models.choices import EnsembleOn

C = TypeVar("C")


@dataclass(kw_only=True)
class ResolvedOptimizer(OptimizerConfig):
    """`optimizer`, with all of SGD's values and the schedule's."""

    name: str
    lr: float
    momentum: float
    weight_decay: float
    decay: float
    decay_every: float


@dataclass(kw_only=True)
class ResolvedObjective(ObjectiveConfig):
    """`objective`, with the loss of the task."""

    loss: str


@dataclass(kw_only=True)
class ResolvedEnsemble(EnsembleConfig):
    """`ensemble`."""

    on: EnsembleOn


@dataclass(kw_only=True)
class ResolvedConfig(Config):
    """All keys of a run."""

    J: int
    epochs: int = field(metadata=WHERE)
    batch_size: int
    model: ResolvedNetwork
    plan: ResolvedPlan
    optimizer: ResolvedOptimizer
    objective: ResolvedObjective
    ensemble: ResolvedEnsemble


def narrowed(kind: type[C], config: Any, **values: Any) -> C:
    """The keys of a configuration as its resolved class, with some of them replaced."""
    return kind(**{**vars(config), **values})
