"""Feature stores and decisions about caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from layerwise.features.cache_plan import CacheDecision, decide_cache
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.store import FeatureStores


def decide_small(kind: str, folder: Path, **changes: Any) -> CacheDecision:
    """What is cached of 100 samples of 64 float32 features, which are not augmented."""
    options: dict[str, Any] = {
        "shapes": [(4, 4, 4)],
        "images": 100,
        "held_out": 0,
        "views": 1,
        "epochs": 1,
        "augmented": False,
        "fresh_views": False,
        "codec": FeatureCodec(FeatureDtype.float32),
        "computed": torch.float32,
        "budget_bytes": None,
        "folder": folder,
    }
    return decide_cache(kind, **options | changes)


def stores(folder: Path | None, dtype: str = "float32", keep: bool = False) -> FeatureStores:
    return FeatureStores(FeatureCodec(FeatureDtype(dtype)), folder, keep)
