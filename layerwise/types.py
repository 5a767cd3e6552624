"""The few types that every module shares.

Letters in shape comments: B batch, N samples, C channels, H and W height and width, c classes,
D depths that are read out.
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from torch import Tensor

Shape = tuple[int, ...]
"""Shape of one sample without the batch axis: (C, H, W) for images."""


class Batch(NamedTuple):
    """One step's input: x_j and the labels, on the training device."""

    inputs: Tensor  # [B, C, H, W] float, channels_last
    targets: Tensor  # [B] int64


class Scores(TypedDict):
    """How good one set of class scores is. Accuracies are percentages."""

    loss: float
    top1: float
    top5: float
