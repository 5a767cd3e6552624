"""The parts of blocks: W P (downsampling and convolution), norms, ρ (activation), initialisation, a fixed whitening.

Whitening: Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.models.choices import Activation, Downsampling, Initialisation

M = TypeVar("M", bound=nn.Module)

WHITENING_EPSILON = 5e-4
"""Added to the eigenvalues, as a share of their mean, so that directions with almost no variance are not amplified."""

_ACTIVATIONS: dict[Activation, Callable[[], list[nn.Module]]] = {
    Activation.relu: lambda: [nn.ReLU(inplace=True)],
    Activation.gelu: lambda: [nn.GELU()],
    Activation.silu: lambda: [nn.SiLU()],
    Activation.tanh: lambda: [nn.Tanh()],
    Activation.sigmoid: lambda: [nn.Sigmoid()],
    Activation.none: list,
}


def activation_layers(activation: Activation) -> list[nn.Module]:
    """Returns ρ as a list of one layer, or of none for the identity. ReLU overwrites its input."""
    return _ACTIVATIONS[activation]()


Activations = Activation | Sequence[Activation]
"""ρ of all blocks, or of each; the last one is also that of the blocks after it."""


def activation_of(activations: Activations, j: int) -> Activation:
    """Returns ρ of block j, which counts from 1."""
    return activations if isinstance(activations, Activation) else activations[min(j, len(activations)) - 1]


def downsample_and_convolve(
    in_channels: int, out_channels: int, downsampling: Downsampling | None, bias: bool
) -> list[nn.Module]:
    """Returns the linear part W P of a block: [B, in, H, W] → [B, out, H, W], or [B, out, H/2, W/2].

    Each P halves the resolution (paper, section 4.1). The invertible one moves 2×2 pixels into channels (×4), so that
    nothing is lost; `stride` lets the convolution step by 2; `average` and `max` pool; `max_after` pools the outputs
    of the convolution, P W, and drops the last row and column of an odd resolution.

    Args:
        downsampling: the operator P; None for the identity.
        bias: whether the convolution has one; it has no effect before a batch norm.
    """
    operator: list[nn.Module] = []
    after: list[nn.Module] = []
    stride = 1
    if downsampling is Downsampling.invertible:
        operator = [nn.PixelUnshuffle(2)]  # [B, C, H, W] → [B, 4C, H/2, W/2]
        in_channels = 4 * in_channels
    elif downsampling is Downsampling.average:
        operator = [nn.AvgPool2d(2)]
    elif downsampling is Downsampling.max:
        operator = [nn.MaxPool2d(2)]
    elif downsampling is Downsampling.max_after:
        after = [nn.MaxPool2d(2)]
    elif downsampling is Downsampling.stride:
        stride = 2
    return [*operator, nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias), *after]


@dataclass(frozen=True)
class Norm:
    """Describes a batch norm.

    Attributes:
        scale: whether it has a learnt factor for each channel; the shift is always learnt.
        momentum: weight of a batch in the running statistics.
        epsilon: added to the variance.
    """

    scale: bool = True
    momentum: float = 0.1
    epsilon: float = 1e-5

    def layer(self, channels: int) -> nn.BatchNorm2d:
        """Returns the module [B, channels, H, W] → the same."""
        norm = nn.BatchNorm2d(channels, eps=self.epsilon, momentum=self.momentum)
        if not self.scale:
            ones = norm.weight.detach()
            del norm.weight
            norm.register_buffer("weight", ones)  # no parameter: a stage makes all parameters trainable
        return norm


PLAIN_NORM = Norm()
"""PyTorch's batch norm."""


def initialise_convolutions(module: M, initialisation: Initialisation, identity: bool = False) -> M:
    """Initialises the convolutions of a module, in place.

    Args:
        module: with PyTorch's initialisation.
        initialisation: he, dirac, or pytorch, which changes nothing.
        identity: `dirac` copies the input channels; true for blocks, false for heads.
    """
    for layer in (layer for layer in module.modules() if isinstance(layer, nn.Conv2d)):
        if initialisation is Initialisation.he:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif initialisation is Initialisation.dirac and identity:
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    return module


class Whitening(nn.Module):
    """Maps [B, C, H, W] → [B, 2·n²·C, H', W']: n×n patches in the basis of their eigenvectors, ± each.

    Each filter is an eigenvector of the patches' covariance, scaled to unit variance. Both signs are kept, so that the
    ρ that follows loses nothing. The filters are fixed. It gives zeros until `fit` is called.

    Args:
        patch: n, side of a patch in pixels. An odd patch lies around each pixel, so that H' = H; of an even one only
            those within the image count, H' = H − n + 1.
        trained_shift: the shift is a parameter, which starts at the value that `fit` finds.
    """

    def __init__(self, channels: int, patch: int = 3, trained_shift: bool = False) -> None:
        super().__init__()
        self.patch, self.dimensions = patch, channels * patch**2
        self.padding = patch // 2 if patch % 2 else 0
        self.filters = nn.Buffer(torch.zeros(2 * self.dimensions, channels, patch, patch))
        shift = torch.zeros(2 * self.dimensions)
        self.shift: Tensor = nn.Parameter(shift) if trained_shift else nn.Buffer(shift)

    @property
    def out_channels(self) -> int:
        return 2 * self.dimensions

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.filters, self.shift, padding=self.padding)

    @torch.no_grad()
    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Sets the filters from the statistics of patches.

        Args:
            mean: [C·n²] float64, in the order of `patches`.
            covariance: [C·n², C·n²] float64.
        """
        values, vectors = torch.linalg.eigh(covariance.cpu())  # in ascending order; vectors are columns
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        vectors = vectors * largest.sign()  # eigh's choice of the sign differs between machines
        scaled = (vectors / (values.clamp_min(0) + WHITENING_EPSILON * values.mean()).sqrt()).T
        filters = torch.cat([scaled, -scaled])
        self.filters.copy_(filters.view(self.filters.shape))
        self.shift.copy_(-filters @ mean.cpu())


def patches(x: Tensor, side: int) -> Tensor:
    """Returns all patches that lie within the images: [B, C, H, W] → [number, C·side²]."""
    return F.unfold(x, side).transpose(1, 2).flatten(0, 1)
