"""Auxiliary classifiers C_γ: from block outputs x_j to class scores z_j (paper, equation 2)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

QUADRANTS = 2
"""A averages to 2×2 positions per channel."""


class FullPrecisionLinear(nn.Linear):
    """A linear layer in float32 also under autocast.

    In bfloat16 neighbouring class scores often tie, and accuracies would depend on how ties are
    broken. The layer is too small for its format to cost time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.amp.is_autocast_available(x.device.type):  # the meta device, where only shapes are computed
            return super().forward(x.float())
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def cnn_head(in_channels: int, classes: int, *, k: int, width: int, batch_norm: bool) -> nn.Sequential:
    """k−1 convolutions of constant width, the average A to 2×2, and a linear layer.

    C x = L A x for k = 1, and C x = L A ρ W̃_{k−2} … ρ W̃_0 x for k > 1, with a batch norm after each
    convolution and between A and L where `batch_norm` is on.

    Args:
        in_channels: channels of x_j.
        classes: number of classes c.
        k: hidden layers of the problem that the block and its head solve together; k ≥ 1.
        width: M̃ at this depth, unused for k = 1.
        batch_norm: the paper's networks have it for k ≥ 2.

    Returns:
        [B, in_channels, H, W] → [B, classes]; H and W at least 2.
    """
    channels = [in_channels] + [width] * (k - 1)
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(channels):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=not batch_norm)]
        layers += [nn.BatchNorm2d(c_out)] if batch_norm else []
        layers += [nn.ReLU(inplace=True)]
    layers += [nn.AdaptiveAvgPool2d(QUADRANTS)]  # [B, M̃, 2, 2]
    layers += [nn.BatchNorm2d(channels[-1])] if batch_norm else []
    return nn.Sequential(*layers, nn.Flatten(), FullPrecisionLinear(channels[-1] * QUADRANTS**2, classes))
