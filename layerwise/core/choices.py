"""Values of options of the machine. Imports no torch: the command line reads it."""

from __future__ import annotations

from enum import Enum


class PrecisionName(Enum):
    """Values of the key `precision`."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
