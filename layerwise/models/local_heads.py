"""Heads of methods of local training.

InfoPro: Wang, Ni, Song, Yang and Huang, Revisiting Locally Supervised Learning (ICLR 2021).
CwC: Papachristodoulou, Kyrkou, Timotheou and Theocharides, Convolutional Channel-wise Competitive Learning for the
Forward-Forward Algorithm (AAAI 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.types import Shape
from layerwise.models.choices import Initialisation
from layerwise.models.heads import FullPrecisionLinear
from layerwise.models.layers import initialise_convolutions
from layerwise.models.readout import Readout, TrainingHead

HIDDEN = 128
"""Width of the hidden linear layer of `OneConvolutionHead`, and of InfoPro's contrasted projection."""

DECODER_WIDTH = 12
"""Channels between the convolutions of InfoPro's decoder."""


@dataclass(frozen=True)
class OneConvolutionHead:
    """A 3×3 convolution, an average over all positions and two linear layers ("1c2f").

    The common head of InfoPro's comparisons. The convolution is twice as wide as x_j and has stride 2, like the next
    group of a ResNet; behind a block of the last group, of the width `most`, it is as wide and has stride 1, as in the
    authors' code.

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


@dataclass(frozen=True)
class InfoProHead:
    """A decoder of the images beside an auxiliary classifier.

    Attributes:
        most: of the classifier, a `OneConvolutionHead`.
        image_shape: (C, H, W) of x_0.
        contrast: the auxiliary network gives a projection, which a contrastive loss compares, and a linear layer reads
            class scores from it without a gradient to it.
    """

    image_shape: Shape
    most: int | None = None
    contrast: bool = False

    def build(self, shape: Shape, classes: int) -> InfoProModule:
        auxiliary = OneConvolutionHead(self.most).build(shape, HIDDEN if self.contrast else classes)
        decoder = nn.Sequential(
            nn.Upsample(self.image_shape[1:], mode="bilinear", align_corners=True),
            nn.Conv2d(shape[0], DECODER_WIDTH, 3, padding=1),
            nn.BatchNorm2d(DECODER_WIDTH),
            nn.ReLU(inplace=True),
            nn.Conv2d(DECODER_WIDTH, self.image_shape[0], 3, padding=1),
        )
        initialise_convolutions(decoder, Initialisation.he)
        return InfoProModule(auxiliary, decoder, FullPrecisionLinear(HIDDEN, classes) if self.contrast else None)


@dataclass(frozen=True)
class InfoProContrastHead(InfoProHead):
    """An `InfoProHead` with a contrastive loss."""

    contrast: bool = True


class InfoProModule(TrainingHead):
    """The module of `InfoProHead`."""

    def __init__(self, auxiliary: nn.Module, decoder: nn.Module, classifier: nn.Module | None) -> None:
        super().__init__()
        self.auxiliary, self.decoder, self.classifier = auxiliary, decoder, classifier

    def forward(self, x: Tensor) -> Tensor:
        return self._scores(self.auxiliary(x))

    def read(self, x: Tensor, inputs: Tensor) -> Readout:
        z = self.auxiliary(x)
        return Readout(self._scores(z), None if self.classifier is None else z, self.decoder(x), inputs)

    def _scores(self, z: Tensor) -> Tensor:
        scores: Tensor = z if self.classifier is None else self.classifier(z.detach())
        return scores


@dataclass(frozen=True)
class GoodnessHead:
    """The goodness of groups of channels (CwC), without parameters; the groups are as equal as C and c allow."""

    def build(self, shape: Shape, classes: int) -> Goodness:
        """Returns the module.

        Raises:
            LayerwiseError: there are fewer channels than classes.
        """
        if shape[0] < classes:
            raise LayerwiseError(
                f"model.head=goodness: the {shape[0]} channels of a block are too few for {classes} classes. Use "
                "a larger model.width."
            )
        return Goodness(classes)


class Goodness(nn.Module):
    """Class score g_c: the mean of y² over the c-th group of channels and over all positions, [B, C, H, W] → [B, c]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        squares = x.float().square().mean(dim=(2, 3))  # [B, C]
        return torch.stack([group.mean(dim=1) for group in squares.tensor_split(self.classes, dim=1)], dim=1)
