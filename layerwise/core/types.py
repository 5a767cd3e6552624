"""The few types that every module shares.

Letters in shape comments: B batch, N samples, C channels, H and W height and width, c classes,
D depths that are read out.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypedDict

from torch import Tensor

Shape = tuple[int, ...]
"""Shape of one sample without the batch axis: (C, H, W) for images, (F,) for vectors."""


Target = Literal["labels", "inputs"]
"""What a stage predicts: the classes, or x_0 again (an autoencoder)."""


class Batch(NamedTuple):
    """One step's input: x_j and what is to be predicted from it, on the training device."""

    inputs: Tensor  # [B, C, H, W] float, channels_last; or [B, F]
    targets: Tensor  # labels [B] int64, or the scaled input x_0


class Accuracies(TypedDict):
    """Shares of samples in per cent."""

    top1: float
    top5: float


class Scores(Accuracies):
    """How good one set of class scores is."""

    loss: float
