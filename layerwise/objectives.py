"""What a stage minimises: from the scores of its heads to a loss and exact counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor


class Terms(TypedDict):
    """Result of an objective on one batch; D heads."""

    loss: Tensor  # scalar to minimise
    losses: Tensor  # [D] mean loss of each head, detached
    correct: Tensor  # [D] number of samples whose first class is right


@dataclass(frozen=True)
class CrossEntropy:
    """The empirical risk of each head's scores, summed over the heads (paper, equation 3).

    Args:
        label_smoothing: weight of the uniform distribution in the targets, in [0, 1).
    """

    label_smoothing: float = 0.0

    def __call__(self, scores: Sequence[Tensor], targets: Tensor) -> Terms:
        """Args: scores: one [B, c] per head. targets: [B] int64."""
        losses = torch.stack(
            [F.cross_entropy(z.float(), targets, label_smoothing=self.label_smoothing) for z in scores]
        )
        correct = torch.stack([(z.detach().argmax(dim=1) == targets).sum() for z in scores])
        return {"loss": losses.sum(), "losses": losses.detach(), "correct": correct}
