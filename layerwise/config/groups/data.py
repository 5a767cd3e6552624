"""The configuration of caches: `cache`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from layerwise.config.groups import WHERE
from layerwise.features.choices import FeatureDtype


class CacheKind(Enum):
    """Values of `cache`."""

    none = "none"
    memory = "memory"
    disk = "disk"
    auto = "auto"


@dataclass
class CacheConfig:
    """`cache=none|memory|disk|auto`."""

    kind: CacheKind = MISSING
    views: Any = "epochs"  # a number or "epochs"
    dtype: FeatureDtype | None = None
    dir: str | None = field(default=None, metadata=WHERE)
    budget_gb: float | None = field(default=None, metadata=WHERE)
    keep: bool = field(default=False, metadata=WHERE)
