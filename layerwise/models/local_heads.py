"""Heads of methods of simultaneous local training, for outputs of any width."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from layerwise.core.types import Shape
from layerwise.models.choices import Initialisation
from layerwise.models.heads import FullPrecisionLinear
from layerwise.models.layers import initialise_convolutions

HIDDEN = 128
"""Width of the hidden linear layer of `OneConvolutionHead`."""


@dataclass(frozen=True)
class OneConvolutionHead:
    """A 3×3 convolution, an average over all positions and two linear layers ("1c2f").

    The common head of the comparisons of Wang et al., Revisiting Locally Supervised Learning (ICLR 2021). The
    convolution is twice as wide as x_j and has stride 2, as the next group of a ResNet would; behind a block of the
    last group, of the width `most`, it is as wide and has stride 1, as in the authors' code.

    Attributes:
        most: the largest width; None: there is none.
    """

    most: int | None = None

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        stride = 1 if self.most is not None and shape[0] >= self.most else 2
        width = shape[0] * stride
        layers = nn.Sequential(
            nn.Conv2d(shape[0], width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, HIDDEN),
            nn.ReLU(inplace=True),
            FullPrecisionLinear(HIDDEN, classes),
        )
        return initialise_convolutions(layers, Initialisation.he)
