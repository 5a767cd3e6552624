"""Auxiliary classifiers C_γ: from block outputs x_j to class scores z_j (paper, equation 2); linear decoders to x_0.

A head is described by a frozen dataclass whose `build` gives the module. Beside the paper's heads stand those of the
two best-known simultaneous local methods: MLP-SR of Belilovsky, Eickenberg and Oyallon, Decoupled Greedy Learning of
CNNs (ICML 2020), and the linear classifier with a similarity projection of Nøkland and Eidnes, Training Neural
Networks with Local Error Signals (ICML 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Protocol

import torch
from torch import Tensor, nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.types import Shape
from layerwise.models.choices import Activation
from layerwise.models.layers import PLAIN_NORM, Norm, activation_layers
from layerwise.models.readout import Readout, TrainingHead

QUADRANTS = 2
"""Positions per side that A averages to: 2×2 in all of the paper's networks but one."""

MLP_SR_LAYERS = 3
"""Number of convolutions, and of hidden linear layers, in MLP-SR."""

PREDSIM_FEATURES = 2048
"""Upper bound on the inputs of the linear classifier beside the similarity projection (the paper's for CIFAR-10)."""


class Head(Protocol):
    """Describes an auxiliary classifier."""

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Returns the module [B, C, H, W] → [B, classes] for block outputs x_j of shape (C, H, W)."""


class FullPrecisionLinear(nn.Linear):
    """A linear layer that computes in float32 under autocast, too.

    In bfloat16 neighbouring class scores often tie, and accuracies would depend on how ties are
    broken. The layer is too small for its format to cost time.
    """

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):  # or the meta device
            return super().forward(x.float())
        with torch.autocast(kind, enabled=False):
            return super().forward(x.float())


@dataclass(frozen=True)
class CnnHead:
    """The paper's head: k−1 convolutions of constant width, the average A to 2×2, and a linear layer L.

    C x = L A x for k = 1, and C x = L A ρ W̃_{k−2} … ρ W̃_0 x for k > 1, with a batch norm after each
    convolution and between A and L where `batch_norm` is on.

    Attributes:
        k: hidden layers of the problem that the block and its head solve together; k ≥ 1.
        width: M̃ at this depth, unused for k = 1; None for the width of x_j.
        batch_norm: the paper's networks have it for k ≥ 2.
        pool: positions per side that A averages to, or H and W of x_j where these are smaller.
        activation: ρ.
        norm: the batch norms.
        pool_overlap: where a side is no multiple of `pool`, the windows of A overlap; false: they do not, and the last
            rows and columns are left out.
    """

    k: int
    width: int | None = None
    batch_norm: bool = True
    pool: int = QUADRANTS
    activation: Activation = Activation.relu
    norm: Norm = PLAIN_NORM
    pool_overlap: bool = True

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        """Returns the module; behind vectors (F,) it is that of a `VectorHead`."""
        if len(shape) == 1:
            return VectorHead(self.k, self.width).build(shape, classes)
        pool = min(self.pool, *shape[1:])
        channels = [shape[0]] + [self.width or shape[0]] * (self.k - 1)
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(channels):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=not self.batch_norm)]
            layers += [self.norm.layer(c_out)] if self.batch_norm else []
            layers += activation_layers(self.activation)
        layers += average(shape[1:], pool, self.pool_overlap)  # [B, M̃, 2, 2]
        layers += [self.norm.layer(channels[-1])] if self.batch_norm else []
        return nn.Sequential(*layers, nn.Flatten(), FullPrecisionLinear(channels[-1] * pool**2, classes))


def average(sides: Sequence[int], pool: int, overlap: bool = True) -> list[nn.Module]:
    """Returns A, [B, C, H, W] → [B, C, pool, pool].

    Args:
        sides: H and W, pool or more.
        overlap: as `pool_overlap` of `CnnHead`.
    """
    kept = [side - side % pool for side in sides]
    if overlap or kept == list(sides):
        return [nn.AdaptiveAvgPool2d(pool)]
    crop = nn.ZeroPad2d((0, kept[1] - sides[1], 0, kept[0] - sides[0]))  # a negative padding leaves out
    return [crop, nn.AdaptiveAvgPool2d(pool)]


LEAST_POOLED = 4
"""Positions per side from which a pooled head halves the resolution."""


@dataclass(frozen=True)
class PooledHead:
    """A head of fewer operations than `CnnHead`: a 2×2 max pool follows each of its k−1 convolutions.

    C x = s L max(ρ N P W̃_{k−2} … ρ N P W̃_0 x): convolution W̃, pool P where the resolution is at least 4, batch norm N,
    ρ; then the maximum over all positions and a linear layer L without bias (the head of Jordan, 94% on CIFAR-10 in
    3.29 Seconds on a Single GPU, 2024).

    Attributes:
        k: hidden layers of the problem that the block and its head solve together; k ≥ 1.
        width: M̃ at this depth, unused for k = 1; None for the width of x_j.
        batch_norm: whether there is N.
        activation: ρ.
        norm: N.
        head_scale: s, factor on the class scores.
    """

    k: int
    width: int | None = None
    batch_norm: bool = True
    activation: Activation = Activation.relu
    norm: Norm = PLAIN_NORM
    head_scale: float = 1.0

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        channels, side = [shape[0]] + [self.width or shape[0]] * (self.k - 1), min(shape[1:])
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(channels):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=not self.batch_norm)]
            if side >= LEAST_POOLED:
                layers += [nn.MaxPool2d(2)]
                side //= 2
            layers += [self.norm.layer(c_out)] if self.batch_norm else []
            layers += activation_layers(self.activation)
        layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten()]  # [B, M̃]
        return nn.Sequential(*layers, FullPrecisionLinear(channels[-1], classes, bias=False), Scale(self.head_scale))


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class SingleLogit(nn.Module):
    """A head for two classes that ends with one logit z, made from a head that is built for one class.

    Its class scores are (0, z): their softmax is (1 − σ(z), σ(z)), and their cross-entropy the binary one of z.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(x)  # [B, 1]
        return torch.cat([torch.zeros_like(z), z], dim=1)


@dataclass(frozen=True)
class MlpSrHead:
    """A multi-layer perceptron on a spatially reduced input (DGL: MLP-SR), as wide as x_j.

    The resolution is averaged to a quarter per side, three 1×1 convolutions follow, A to 2×2, and three
    hidden linear layers, all with ReLU.

    Attributes:
        batch_norm: after each hidden layer.
    """

    batch_norm: bool = True

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        channels, side, bias = shape[0], min(shape[1:]), not self.batch_norm
        features = channels * QUADRANTS**2
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(ceil(side / 4))]  # [B, C, H/4, W/4]
        for _ in range(MLP_SR_LAYERS):
            layers += [nn.Conv2d(channels, channels, 1, bias=bias)]
            layers += [nn.BatchNorm2d(channels)] if self.batch_norm else []
            layers += [nn.ReLU(inplace=True)]
        layers += [nn.AdaptiveAvgPool2d(QUADRANTS), nn.Flatten()]  # [B, 4C]
        for _ in range(MLP_SR_LAYERS):
            layers += [nn.Linear(features, features, bias=bias)]
            layers += [nn.BatchNorm1d(features)] if self.batch_norm else []
            layers += [nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, FullPrecisionLinear(features, classes))


@dataclass(frozen=True)
class VectorHead:
    """A perceptron on vectors: k−1 hidden layers with ReLU, and a linear layer.

    Attributes:
        k: hidden layers of the problem that the block and its head solve together; k ≥ 1.
        width: of the hidden layers; None for the width of x_j.
    """

    k: int
    width: int | None = None

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        widths = [shape[0]] + [self.width or shape[0]] * (self.k - 1)
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
        return nn.Sequential(*hidden, FullPrecisionLinear(widths[-1], classes))


@dataclass(frozen=True)
class PredSimHead:
    """A linear classifier, and a 3×3 convolution whose outputs are to be similar within a class."""

    def build(self, shape: Shape, classes: int) -> PredSim:
        return PredSim(shape[0], min(shape[1:]), classes)


class PredSim(TrainingHead):
    """The module of `PredSimHead`.

    `forward` gives class scores; `embed` gives what `objectives.similarity_loss` compares. The
    classifier starts at zero, as in the authors' code.

    Args:
        side: the smaller of H and W of x_j.
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

    def read(self, x: Tensor, inputs: Tensor) -> Readout:
        embedding = self.embed(x)
        return Readout(self(x), embedding)

    def embed(self, x: Tensor) -> Tensor:
        """Standard deviation over the positions of each projected channel, [B, C]."""
        projected = self.projection(x).float()  # [B, C, H, W]
        # a variance instead of torch.std, whose gradient is infinite where a channel is constant
        variance: Tensor = projected.var(dim=(2, 3), unbiased=projected[0, 0].numel() > 1)
        return (variance + 1e-8).sqrt()


def linear_decoder(shape: Shape, input_shape: Shape) -> nn.Sequential:
    """Returns a linear map from x_j to x_0.

    Vectors are mapped by a matrix. Feature maps are mapped by a 3×3 convolution whose channels are then
    spread over the positions that downsampling took away.

    Args:
        shape: of x_j, (C, H, W) or (F,).
        input_shape: of x_0.

    Returns:
        [B, *shape] → [B, *input_shape].

    Raises:
        LayerwiseError: the resolution of x_0 is not a multiple of that of x_j, or x_j are tokens.
    """
    if len(shape) == 1:
        return nn.Sequential(nn.Linear(shape[0], prod(input_shape)), nn.Unflatten(1, input_shape))
    if len(shape) == 2:
        raise LayerwiseError(
            "plan=autoencoder: a decoder does not read tokens. Use a network whose blocks return feature maps."
        )
    channels, height, width = input_shape
    factor = height // shape[1]
    if (shape[1] * factor, shape[2] * factor) != (height, width):
        raise LayerwiseError(
            f"plan=autoencoder: images of {height}×{width} pixels are not a multiple of the {shape[1]}×{shape[2]} "
            "positions that a decoder starts from. Use another resolution, or downsample other blocks."
        )
    return nn.Sequential(nn.Conv2d(shape[0], channels * factor**2, 3, padding=1), nn.PixelShuffle(factor))
