"""A loss of class scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Focal:
    """Focal loss (Lin et al. 2017): cross-entropy weighted by (1 - p)^gamma, p the probability of the true class."""

    gamma: float = 2.0

    def __call__(self, z: Tensor, targets: Tensor) -> Tensor:  # [B, c], [B] -> scalar
        cross_entropy = F.cross_entropy(z, targets, reduction="none")  # [B], -log p
        return ((1 - torch.exp(-cross_entropy)) ** self.gamma * cross_entropy).mean()
