"""VGG block by block (the paper's VGG-11), and AlexNet's widths in the same form.

A block is a 3×3 convolution with bias, batch norm and ReLU; a max pooling goes with the convolution
behind it. The heads work at half the block's resolution; the last one is VGG's own classifier, so
the network read by it is VGG itself (without dropout, as in the paper's code). Weights start as
there: convolutions Kaiming-normal over the fan-out, linear layers N(0, 0.01), biases 0.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil

from torch import nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.block import Block
from layerwise.models.blocknet import BlockNet
from layerwise.models.heads import QUADRANTS, FullPrecisionLinear

POOL = "M"
VGG_LAYERS: dict[int, list[str | int]] = {
    11: [64, POOL, 128, POOL, *[256] * 2, POOL, *[512] * 2, POOL, *[512] * 2, POOL],
    13: [*[64] * 2, POOL, *[128] * 2, POOL, *[256] * 2, POOL, *[512] * 2, POOL, *[512] * 2, POOL],
    16: [*[64] * 2, POOL, *[128] * 2, POOL, *[256] * 3, POOL, *[512] * 3, POOL, *[512] * 3, POOL],
    19: [*[64] * 2, POOL, *[128] * 2, POOL, *[256] * 4, POOL, *[512] * 4, POOL, *[512] * 4, POOL],
}
"""Widths of the convolutions and places of the max poolings, by the number of layers with weights."""

ALEXNET_LAYERS: list[str | int] = [64, POOL, 192, POOL, 384, 256, 256, POOL]
"""AlexNet's widths; its large kernels and strides, made for 224 pixels, become 3×3."""

FIRST_WIDTH = 64
CLASSIFIER_WIDTH = 4096


@dataclass(frozen=True)
class Vgg:
    """Describes a network by a VGG-like list of layers.

    Attributes:
        layers: `VGG_LAYERS[11]` and its like; J is the number of convolutions.
        k: hidden layers of each greedy problem; all heads but the last have k−1 convolutions.
        width: channels of the first block; all other widths scale with it (64: the original).
    """

    layers: Sequence[str | int]
    k: int = 1
    width: int = FIRST_WIDTH

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation; each block and head has a seed of its own.

        Raises:
            LayerwiseError: the images are too small for the poolings.
        """
        J, size = block_count(self.layers), "×".join(map(str, shape[1:]))
        blocks: list[nn.Module] = []
        heads: dict[int, nn.Module] = {}
        channels, *sides = shape
        pooling: list[nn.Module] = []
        for layer in self.layers:
            if layer == POOL:
                pooling = [nn.MaxPool2d(2)]
                sides = [side // 2 for side in sides]
                if min(sides) < 1:
                    raise LayerwiseError(
                        f"images of {size} pixels are too small for the max poolings of this VGG. Use model=simcnn."
                    )
                continue
            j, out = len(blocks) + 1, int(layer) * self.width // FIRST_WIDTH
            with seeded(key("block", seed, j)):
                convolution = nn.Conv2d(channels, out, 3, padding=1)
                block = Block(*pooling, convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))
                blocks.append(initialise(block))
            channels, pooling = out, []
            if j < J and (depths is None or j in depths):
                with seeded(key("head", seed, j)):
                    heads[j] = initialise(vgg_head((channels, *sides), classes, k=self.k))
        if depths is None or J in depths:
            hidden = CLASSIFIER_WIDTH * self.width // FIRST_WIDTH
            with seeded(key("head", seed, J)):
                heads[J] = initialise(vgg_classifier((channels, *sides), classes, pooling, hidden))
        return BlockNet(blocks, heads)


def block_count(layers: Sequence[str | int]) -> int:
    """J: number of convolutions."""
    return sum(layer != POOL for layer in layers)


def vgg_head(shape: Shape, classes: int, *, k: int) -> nn.Sequential:
    """The paper's code's head for VGG: average to half the resolution, k−1 unpadded convolutions, A, norm, L.

    Its convolutions are twice as wide as the block. Where the images are so small that no 2×2 would be
    left, neither is the resolution halved nor the padding dropped.

    Args:
        shape: (C, H, W) of x_j.
    """
    channels, side = shape[0], min(shape[1:])
    halved = ceil(side / 2)
    large = halved - 2 * (k - 1) >= QUADRANTS
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(halved)] if large else []
    for _ in range(k - 1):
        layers += [nn.Conv2d(channels, 2 * shape[0], 3, padding=int(not large), bias=False)]
        layers += [nn.BatchNorm2d(2 * shape[0]), nn.ReLU(inplace=True)]
        channels = 2 * shape[0]
    pool = min(QUADRANTS, side)
    layers += [nn.AdaptiveAvgPool2d(pool), nn.BatchNorm2d(channels), nn.Flatten()]
    return nn.Sequential(*layers, FullPrecisionLinear(channels * pool**2, classes))


def vgg_classifier(shape: Shape, classes: int, pooling: list[nn.Module], hidden: int) -> nn.Sequential:
    """VGG's own classifier: the last max pooling and two hidden linear layers.

    Args:
        shape: (C, H, W) behind the pooling.
        pooling: the layers that halve the resolution before it.
    """
    channels, height, width = shape
    return nn.Sequential(
        *pooling,
        nn.Flatten(),
        nn.Linear(channels * height * width, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        FullPrecisionLinear(hidden, classes),
    )


def initialise(module: nn.Sequential) -> nn.Sequential:
    """Draws all weights anew, as in the paper's code for VGG."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
