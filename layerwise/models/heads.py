"""Auxiliary classifiers C_γ: from block outputs x_j to class scores z_j (paper, equation 2).

Beside the paper's heads stand those of the two best-known simultaneous local methods: the MLP-SR of
Belilovsky, Eickenberg and Oyallon, Decoupled Greedy Learning of CNNs (ICML 2020), and the linear
classifier with a similarity projection of Nøkland and Eidnes, Training Neural Networks with Local
Error Signals (ICML 2019).
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import torch
from torch import Tensor, nn

from layerwise.core.types import Shape
from layerwise.models.activations import activation_layers
from layerwise.models.choices import Activation, HeadKind

QUADRANTS = 2
"""A averages to 2×2 positions per channel, but for one network of the paper."""

MLP_SR_LAYERS = 3
"""Convolutions and hidden linear layers of MLP-SR."""

PREDSIM_FEATURES = 2048
"""Most features that the linear classifier beside the similarity projection reads (the paper's CIFAR-10 value)."""


class FullPrecisionLinear(nn.Linear):
    """A linear layer in float32 also under autocast.

    In bfloat16 neighbouring class scores often tie, and accuracies would depend on how ties are
    broken. The layer is too small for its format to cost time.
    """

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):  # or the meta device
            return super().forward(x.float())
        with torch.autocast(kind, enabled=False):
            return super().forward(x.float())


def auxiliary_head(
    kind: HeadKind,
    shape: Shape,
    classes: int,
    *,
    k: int,
    width: int,
    batch_norm: bool,
    pool: int = QUADRANTS,
    activation: Activation = Activation.relu,
) -> nn.Module:
    """The head of a kind for block outputs of a shape.

    Args:
        kind: which head.
        shape: (C, H, W) of x_j.
        classes: number of classes c.
        k: see `cnn_head`; other kinds do not use it.
        width: M̃ at this depth; other kinds are as wide as x_j.
        batch_norm: in the head.
        pool: positions per side that A averages to; no more than x_j has.
        activation: ρ of `cnn_head`; other kinds have ReLU.

    Returns:
        [B, C, H, W] → [B, classes].
    """
    channels, side = shape[0], min(shape[1:])
    if kind is HeadKind.predsim:
        return PredSimHead(channels, side, classes)
    if kind is HeadKind.mlp_sr:
        return mlp_sr_head(channels, side, classes, batch_norm=batch_norm)
    return cnn_head(
        channels, classes, k=k, width=width, batch_norm=batch_norm, pool=min(pool, side), activation=activation
    )


def cnn_head(
    in_channels: int,
    classes: int,
    *,
    k: int,
    width: int,
    batch_norm: bool,
    pool: int = QUADRANTS,
    activation: Activation = Activation.relu,
) -> nn.Sequential:
    """k−1 convolutions of constant width, the average A to 2×2, and a linear layer.

    C x = L A x for k = 1, and C x = L A ρ W̃_{k−2} … ρ W̃_0 x for k > 1, with a batch norm after each
    convolution and between A and L where `batch_norm` is on.

    Args:
        in_channels: channels of x_j.
        classes: number of classes c.
        k: hidden layers of the problem that the block and its head solve together; k ≥ 1.
        width: M̃ at this depth, unused for k = 1.
        batch_norm: the paper's networks have it for k ≥ 2.
        pool: positions per side that A averages to.
        activation: ρ.

    Returns:
        [B, in_channels, H, W] → [B, classes]; H and W at least `pool`.
    """
    channels = [in_channels] + [width] * (k - 1)
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(channels):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=not batch_norm)]
        layers += [nn.BatchNorm2d(c_out)] if batch_norm else []
        layers += activation_layers(activation)
    layers += [nn.AdaptiveAvgPool2d(pool)]  # [B, M̃, 2, 2]
    layers += [nn.BatchNorm2d(channels[-1])] if batch_norm else []
    return nn.Sequential(*layers, nn.Flatten(), FullPrecisionLinear(channels[-1] * pool**2, classes))


def mlp_sr_head(channels: int, side: int, classes: int, *, batch_norm: bool) -> nn.Sequential:
    """A multi-layer perceptron on a spatially reduced input (DGL: MLP-SR).

    The resolution is averaged to a quarter per side, three 1×1 convolutions follow, A to 2×2, and three
    hidden linear layers.

    Args:
        channels: of x_j; all layers of the head are as wide.
        side: H and W of x_j.
        classes: number of classes c.
        batch_norm: after each hidden layer.
    """
    reduced, features = ceil(side / 4), channels * QUADRANTS**2
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(reduced)]  # [B, C, H/4, W/4]
    for _ in range(MLP_SR_LAYERS):
        layers += [nn.Conv2d(channels, channels, 1, bias=not batch_norm)]
        layers += [nn.BatchNorm2d(channels)] if batch_norm else []
        layers += [nn.ReLU(inplace=True)]
    layers += [nn.AdaptiveAvgPool2d(QUADRANTS), nn.Flatten()]  # [B, 4C]
    for _ in range(MLP_SR_LAYERS):
        layers += [nn.Linear(features, features, bias=not batch_norm)]
        layers += [nn.BatchNorm1d(features)] if batch_norm else []
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, FullPrecisionLinear(features, classes))


class PredSimHead(nn.Module):
    """A linear classifier, and a 3×3 convolution whose outputs are to be similar within a class.

    `forward` gives class scores; `embed` gives what `objectives.similarity_loss` compares. The
    classifier starts at zero, as in the authors' code.

    Args:
        channels: of x_j.
        side: H and W of x_j.
        classes: number of classes c.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        pool = max(p for p in range(1, side + 1) if p == 1 or channels * p**2 <= PREDSIM_FEATURES)
        self.projection = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = FullPrecisionLinear(channels * pool**2, classes)
        nn.init.zeros_(self.classifier.weight)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.pool(x).flatten(1))  # [B, c]
        return scores

    def embed(self, x: Tensor) -> Tensor:
        """Standard deviation over the positions of each projected channel, [B, C]."""
        projected = self.projection(x).float()  # [B, C, H, W]
        # a variance instead of torch.std, whose gradient is infinite where a channel is constant
        variance: Tensor = projected.var(dim=(2, 3), unbiased=projected[0, 0].numel() > 1)
        return (variance + 1e-8).sqrt()
