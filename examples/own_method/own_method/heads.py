"""A head."""

from __future__ import annotations

from torch import nn


def bottleneck(shape: tuple[int, ...], classes: int, width: int = 16) -> nn.Sequential:
    """A 1×1 convolution to a few channels, their global average and a linear layer: [B, C, H, W] → [B, classes]."""
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )
