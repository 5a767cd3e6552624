"""Types that all modules share.

Letters in shape comments: B batch, N samples, C channels, H and W height and width, c classes,
D depths with a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
"""Shape of one sample without the batch axis: (C, H, W) for images, (N, C) for N tokens, (F,) for vectors."""


Target = Literal["labels", "inputs"]
"""What a stage predicts: the class labels, or its input x_0 (an autoencoder)."""


class Batch(NamedTuple):
    """Input of one step, on the training device: x_j and the targets."""

    inputs: Tensor  # [B, C, H, W] float, channels_last; [B, N, C] of N tokens; or [B, F]
    targets: Tensor  # labels [B] int64, or the standardised input x_0


class Top1(TypedDict):
    """The share of samples, in per cent, whose class has the highest score."""

    top1: float


class Accuracies(Top1, total=False):
    """Accuracies in per cent; with five classes or fewer there is no top5, which would always be 100."""

    top5: float
