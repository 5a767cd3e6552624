"""Values of options of the training. Imports no torch: the command line reads it."""

from __future__ import annotations

from enum import Enum


class LossName(Enum):
    """Values of `objective.loss` and `objective.reconstruction`."""

    cross_entropy = "cross_entropy"
    binary_cross_entropy = "binary_cross_entropy"
    squared_error = "squared_error"
    absolute_error = "absolute_error"
