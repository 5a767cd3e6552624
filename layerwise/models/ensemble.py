"""The 2^j ensemble of a network's depths (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from layerwise.models.choices import EnsembleOn


def ensemble(scores: Mapping[int, Tensor], on: EnsembleOn) -> Tensor:
    """Z = Σ_j 2^j z_j / Σ_j 2^j over the depths j that are given.

    Args:
        scores: class scores z_j [N, c] by depth j; depths count from 1.
        on: average the z_j as they are, or their softmax.

    Returns:
        [N, c] in float32; its argmax is the ensemble's prediction.
    """
    deepest = max(scores)
    # 2^(j − deepest) instead of 2^j: the same weights, and no overflow at any depth
    weights = {depth: 2.0 ** (depth - deepest) for depth in scores}
    total = torch.zeros_like(scores[deepest], dtype=torch.float32)
    for depth, z in scores.items():
        z = z.float() if on is EnsembleOn.logits else z.float().softmax(dim=1)
        total += weights[depth] / sum(weights.values()) * z
    return total
