"""The ResNet for small images, cut into local modules, each of which is a block.

He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition (CVPR 2016), section 4.2: a convolution (the stem),
then 3n units of two 3×3 convolutions in three groups of growing width. Its depth is 6n + 2. A layer is the stem or a
unit here: there are 3n + 1. The heads are auxiliary ones but for the last, which is the network's own classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.block import Block
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Initialisation, Shortcut
from layerwise.models.heads import Head
from layerwise.models.layers import initialise_convolutions

GROUPS = 3
FIRST_WIDTH = 16


class Unit(nn.Module):
    """ρ(S x + r(x)), [B, C, H, W] → [B, width, H/stride, W/stride]: r is two convolutions with norms, S a shortcut.

    Args:
        shortcut: of a unit that changes the shape; identity: every other position, and channels of zeros behind the
            others (option A of the paper); projection: a 1×1 convolution with a batch norm (option B).
    """

    def __init__(self, channels: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.stride, self.added = stride, width - channels
        self.projection: nn.Module | None = None
        if shortcut is Shortcut.projection and (stride > 1 or self.added):
            convolution = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.projection = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.move(x)[0]

    def move(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns its outputs and r(x)."""
        r: Tensor = self.residual(x)
        return F.relu(self.carry(x) + r, inplace=True), r

    def carry(self, x: Tensor) -> Tensor:
        """Returns S x."""
        if self.projection is not None:
            y: Tensor = self.projection(x)
            return y
        x = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        return F.pad(x, (0, 0, 0, 0, 0, self.added)) if self.added else x


class LocalModule(Block):
    """A row of units, perhaps with the stem in front."""

    def move(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns its outputs and Σ mean(r²) over its units."""
        costs = [x.new_zeros((), dtype=torch.float32)]
        for layer in self:
            if isinstance(layer, Unit):
                x, r = layer.move(x)
                costs.append(r.float().square().mean())
            else:
                x = layer(x)
        return x, torch.stack(costs).sum()


@dataclass(frozen=True)
class ResNetCifar:
    """Describes a ResNet by its modules.

    Attributes:
        units: n, number of units in each of the three groups.
        sizes: number of layers of each module; with fewer than 3n + 1 in all the last layers are left out.
        head: gives that at depth j, from j, the number of layers up to x_j, and the shape of x_0.
        width: of the first group; the second is twice and the third four times as wide.
    """

    units: int
    sizes: Sequence[int]
    head: Callable[[int, int, Shape], Head]
    width: int = FIRST_WIDTH
    shortcut: Shortcut = Shortcut.identity

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation; each block and head has a seed of its own.

        Raises:
            LayerwiseError: the images are too small for two halvings.
        """
        if min(shape[1:]) < 4:
            pixels = "×".join(map(str, shape[1:]))
            raise LayerwiseError(f"images of {pixels} pixels are too small for model=resnet_cifar. Use model=mlp.")
        blocks: list[nn.Module] = []
        heads: dict[int, nn.Module] = {}
        channels, sides, first = shape[0], list(shape[1:]), 0
        for j, size in enumerate(self.sizes, 1):
            with seeded(key("block", seed, j)):
                layers: list[nn.Module] = []
                for width, stride in layer_shapes(self.units, self.width)[first : first + size]:
                    layers += self._layer(channels, width, stride, is_stem=first == 0 and not layers)
                    channels, sides = width, [-(-side // stride) for side in sides]
                blocks.append(initialise_convolutions(LocalModule(*layers), Initialisation.he))
            first += size
            if depths is None or j in depths:
                with seeded(key("head", seed, j)):
                    heads[j] = self.head(j, first, shape).build((channels, *sides), classes)
        return BlockNet(blocks, heads)

    def _layer(self, channels: int, width: int, stride: int, is_stem: bool) -> list[nn.Module]:
        if is_stem:
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        return [Unit(channels, width, stride, self.shortcut)]


def layer_shapes(units: int, width: int) -> list[tuple[int, int]]:
    """Returns the width and the stride of each of the 3n + 1 layers.

    Args:
        units: n.
    """
    grouped = [(width * 2**group, 2 if group and not i else 1) for group in range(GROUPS) for i in range(units)]
    return [(width, 1), *grouped]


def shape_behind(layers: Sequence[tuple[int, int]], input_shape: Shape) -> Shape:
    """Returns the shape of the outputs of layers of some widths and strides."""
    halvings = sum(stride > 1 for _, stride in layers)
    return (layers[-1][0], *(-(-side // 2**halvings) for side in input_shape[1:]))


def equal_sizes(layers: int, modules: int) -> list[int]:
    """Returns the sizes of modules that are equal; where they cannot be, the last ones are larger by one layer."""
    size, larger = divmod(layers, modules)
    return [size] * (modules - larger) + [size + 1] * larger
