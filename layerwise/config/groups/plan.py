"""The configuration of what is trained when: `plan`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from layerwise.config.groups import WHERE


class Plan(Enum):
    """Values of `plan`."""

    greedy = "greedy"
    joint = "joint"
    simultaneous = "simultaneous"
    deep_supervision = "deep_supervision"
    autoencoder = "autoencoder"
    own = "own"


class HeadStart(Enum):
    """Values of `plan.head`: what a new depth's head begins as."""

    fresh = "fresh"
    carried = "carried"
    frozen = "frozen"


@dataclass
class FinetuneConfig:
    """Stages that train all blocks of the grown network together."""

    epochs: int = 0
    autoencoder_epochs: int = 0
    lr: float | None = None


@dataclass
class PlanConfig:
    """`plan=greedy|joint|simultaneous|deep_supervision|autoencoder`."""

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
