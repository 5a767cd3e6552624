"""Heads of residual units, which are like later layers of the network.

A tail, the last layers themselves, is what SegProp trains behind every block (OpenReview p5ObETPuTi, 2026).
AugLocal: Ma, Wu, Si and Tan, Scaling Supervised Local Learning with Augmented Auxiliary Networks (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.types import Shape
from layerwise.models.choices import Initialisation, Shortcut
from layerwise.models.heads import FullPrecisionLinear
from layerwise.models.layers import initialise_convolutions
from layerwise.models.resnet_cifar import Unit, shape_behind

SLOPE = 0.5
"""Part of the depth that the last auxiliary head of AugLocal has lost on the first one."""


@dataclass(frozen=True)
class UnitHead:
    """Residual units, an average over all positions and a linear layer.

    Attributes:
        units: width and stride of each.
        reads: shape that x_j is brought into first; None: its own.
    """

    units: Sequence[tuple[int, int]]
    shortcut: Shortcut
    reads: Shape | None = None

    def build(self, shape: Shape, classes: int) -> nn.Module:
        channels = shape[0] if self.reads is None else self.reads[0]
        layers: list[nn.Module] = [] if self.reads is None else [Fit(self.reads)]
        for width, stride in self.units:
            layers += [Unit(channels, width, stride, self.shortcut)]
            channels = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), FullPrecisionLinear(channels, classes)]
        return initialise_convolutions(nn.Sequential(*layers), Initialisation.he)


class Fit(nn.Module):
    """Brings features into a shape without parameters: averages positions, and adds channels of zeros at the end.

    Args:
        shape: (C, H, W), with at least as many channels and at most as many positions as the features.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != self.shape[1:]:
            x = F.adaptive_avg_pool2d(x, (self.shape[1], self.shape[2]))
        return F.pad(x, (0, 0, 0, 0, 0, self.shape[0] - x.shape[1]))


def auglocal_head(
    layers: Sequence[tuple[int, int]], behind: int, head_depth: int, depth: int, J: int, shortcut: Shortcut
) -> UnitHead:
    return UnitHead(auglocal_units(layers, behind, head_depth, depth - 1, J), shortcut)


def tail_head(layers: Sequence[tuple[int, int]], inside: int, shortcut: Shortcut, image_shape: Shape) -> UnitHead:
    """The layers behind the first `inside` ones, which are in blocks."""
    return UnitHead(layers[inside:], shortcut, shape_behind(layers[:inside], image_shape))


def auglocal_units(
    layers: Sequence[tuple[int, int]], behind: int, depth: int, module: int, modules: int
) -> list[tuple[int, int]]:
    """Returns the units of AugLocal's auxiliary network: like layers at equal distances up to the last one.

    With r falling d shrinks: d_l = max(1, round(d (1 − r) + r)), r = l/2 / (K − 2) for module l of K, from 0.

    Args:
        layers: width and stride of each layer of the network.
        behind: number of layers up to the head.
        depth: d, number of units of the first module's head.
        module: l.
        modules: K.
    """
    r = SLOPE * module / (modules - 2) if modules > 2 else 0.0
    count = min(max(1, round(depth * (1 - r) + r)), len(layers) - behind)
    last, rest = behind - 1, len(layers) - behind
    chosen = [round(last + rest * i / count) for i in range(1, count + 1)]
    units, halved = [], _halvings(layers, last)
    for layer in chosen:
        stride = 2 if _halvings(layers, layer) > halved else 1
        halved += stride - 1
        units.append((layers[layer][0], stride))
    return units


def _halvings(layers: Sequence[tuple[int, int]], layer: int) -> int:
    return sum(stride > 1 for _, stride in layers[: layer + 1])
