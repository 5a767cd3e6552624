"""The configuration of data and caches: `dataset` and `cache`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from layerwise.config.groups import WHERE
from layerwise.data.choices import Border, Flip, Task, ValidationSplit
from layerwise.features.choices import FeatureDtype


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
    randaugment: int = 0
    randaugment_ops: int = 2
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
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
class CacheConfig:
    """`cache=none|memory|disk|auto`."""

    kind: CacheKind = MISSING
    views: Any = "epochs"  # a number or "epochs"
    dtype: FeatureDtype | None = None
    dir: str | None = field(default=None, metadata=WHERE)
    budget_gb: float | None = field(default=None, metadata=WHERE)
    keep: bool = field(default=False, metadata=WHERE)
