"""Values of options of the feature cache. Imports no torch: the command line reads it."""

from __future__ import annotations

from enum import Enum


class FeatureDtype(Enum):
    """Values of `cache.dtype`."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    uint8 = "uint8"
