"""What a head says of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Readout(NamedTuple):
    """What a head says of a batch. All but the scores is said in training, and by some heads and blocks only.

    Attributes:
        scores: class scores [B, c], of a decoder its reconstruction of x_0.
        embedding: [B, E], whose similarities an objective compares.
        reconstruction: logits of the pixels of x_0, [B, C, H, W].
        inputs: what the segment has read, which a reconstruction is compared with.
        moved: Σ mean(r²) over the residual units since the head before: how far they have moved the features.
    """

    scores: Tensor
    embedding: Tensor | None = None
    reconstruction: Tensor | None = None
    inputs: Tensor | None = None
    moved: Tensor | None = None


class TrainingHead(nn.Module, ABC):
    """A head that says more in training than class scores."""

    @abstractmethod
    def read(self, x: Tensor, inputs: Tensor) -> Readout:
        """Returns all that it says of features x_j.

        Args:
            inputs: what the segment has read, x_0 in a stage that starts at the images.
        """
