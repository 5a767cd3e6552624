"""SimCNN: the paper's simple convolutional network (section 4.1), block by block.

    x_{j+1} = ρ W_θj P_j x_j         P_j: downsampling or identity, W: 3×3 convolution, ρ: ReLU

In the paper width M doubles at each downsampled block, and so does the width M̃ of the heads behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.block import Block
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Activation, Downsampling, Initialisation
from layerwise.models.heads import QUADRANTS, Head, PooledHead
from layerwise.models.layers import (
    PLAIN_NORM,
    Activations,
    Norm,
    Whitening,
    activation_layers,
    activation_of,
    downsample_and_convolve,
    initialise_convolutions,
)


@dataclass(frozen=True)
class SimCnn:
    """Describes a SimCNN; J is the number of widths.

    Attributes:
        widths: channels of each block, M and its multiples.
        heads: the auxiliary classifier of each depth.
        downsample: 1-based numbers of the blocks that halve the resolution.
        downsampling: how they do it.
        batch_norm: between W and ρ.
        bias: 1-based numbers of the blocks whose W has a bias; None: all, or none before a batch norm.
        input_downsample: moves 2×2 pixels of the image into channels first, without widening (ImageNet).
        whiten_input: a fixed whitening of the image's patches, to be fitted, and ρ stand before block 1's W.
        whiten_patch: side of these patches in pixels; see `Whitening`.
        whiten_shift: the whitening's shift is trained.
        activation: ρ of the blocks.
        initialisation: of the convolutions: pytorch (as in the paper's code), he or dirac.
        norm: the batch norms of the blocks.
    """

    widths: Sequence[int]
    heads: Sequence[Head]
    downsample: Collection[int] = ()
    downsampling: Downsampling = Downsampling.invertible
    batch_norm: bool = True
    bias: Collection[int] | None = None
    input_downsample: bool = False
    whiten_input: bool = False
    whiten_patch: int = 3
    whiten_shift: bool = False
    activation: Activations = Activation.relu
    initialisation: Initialisation = Initialisation.pytorch
    norm: Norm = PLAIN_NORM

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation; each block and head has a seed of its own.

        Raises:
            LayerwiseError: a downsampled block does not exist, or the resolution cannot be halved.
        """
        check_resolution(
            shape, len(self.widths), self.downsample, self.input_downsample, self.whitened_border, self.downsampling
        )
        blocks, heads = [], {}
        for j, (M, head) in enumerate(zip(self.widths, self.heads, strict=True), 1):
            with seeded(key("block", seed, j)):
                blocks.append(initialise_convolutions(self._block(j, shape), self.initialisation, identity=True))
            shape = (M, *(self._side(j, side) for side in shape[1:]))
            if depths is None or j in depths:
                with seeded(key("head", seed, j)):
                    built = head.build(shape, classes)
                    heads[j] = initialise_convolutions(built, self.initialisation, isinstance(head, PooledHead))
        return BlockNet(blocks, heads)

    @property
    def whitened_border(self) -> int:
        """Pixels per side that the whitening takes away."""
        return self.whiten_patch - 1 if self.whiten_input and self.whiten_patch % 2 == 0 else 0

    def _side(self, j: int, side: int) -> int:
        """Positions per side of x_j, from those of x_{j−1}."""
        if j == 1:
            side = (side // 2 if self.input_downsample else side) - self.whitened_border
        return side // 2 if j in self.downsample else side

    def _block(self, j: int, shape: Shape) -> Block:
        """Block j for inputs x_{j−1} of a shape."""
        channels, M, rho = shape[0], self.widths[j - 1], activation_of(self.activation, j)
        layers: list[nn.Module] = []
        if j == 1 and self.input_downsample:
            layers += [nn.PixelUnshuffle(2)]  # [B, C, H, W] → [B, 4C, H/2, W/2]
            channels *= 4
        if j == 1 and self.whiten_input:
            whitening = Whitening(channels, self.whiten_patch, self.whiten_shift)
            layers += [whitening, *activation_layers(rho)]
            channels = whitening.out_channels
        operator = self.downsampling if j in self.downsample else None
        bias = not self.batch_norm if self.bias is None else j in self.bias
        layers += downsample_and_convolve(channels, M, operator, bias)
        layers += [self.norm.layer(M)] if self.batch_norm else []
        return Block(*layers, *activation_layers(rho))


def doubled(width: int, J: int, downsample: Collection[int]) -> list[int]:
    """Returns the widths of J blocks or heads: that of the first one, doubled at each downsampled block."""
    return [width * 2 ** sum(d <= j for d in downsample) for j in range(1, J + 1)]


def check_resolution(
    image_shape: Shape,
    J: int,
    downsample: Collection[int],
    input_downsample: bool = False,
    border: int = 0,
    downsampling: Downsampling = Downsampling.invertible,
) -> None:
    """Refuses downsampled blocks that do not exist or that halve too often.

    Args:
        border: pixels per side that a whitening takes away before block 1.
        downsampling: how they halve; `max_after` also halves odd resolutions.

    Raises:
        LayerwiseError: names `model.downsample`, the block and its resolution.
    """
    _, height, width = image_shape
    if min(height, width) < QUADRANTS:
        raise LayerwiseError(f"images of {height}×{width} pixels are too small: a head needs 2×2.")
    if len(set(downsample)) < len(downsample):
        raise LayerwiseError(f"model.downsample={list(downsample)}: a block is named twice.")
    if input_downsample:
        if height % 2 or width % 2:
            raise LayerwiseError(f"model.input_downsample=true: images of {height}×{width} pixels cannot be halved.")
        height, width = height // 2, width // 2
    height, width = height - border, width - border
    for j in sorted(downsample):
        if not 1 <= j <= J:
            raise LayerwiseError(
                f"model.downsample={list(downsample)}: block {j} does not exist; blocks are 1 … {J} (J={J})."
            )
        if downsampling is not Downsampling.max_after and (height % 2 or width % 2):
            raise LayerwiseError(
                f"model.downsample={list(downsample)}: block {j} cannot halve an odd resolution "
                f"({height}×{width}). Downsample fewer blocks."
            )
        height, width = height // 2, width // 2
        if min(height, width) < QUADRANTS:
            raise LayerwiseError(
                f"model.downsample={list(downsample)}: with J={J} the resolution falls below 2×2 at block {j} "
                f"(images are {image_shape[1]}×{image_shape[2]}), and a head needs 2×2. "
                "Downsample fewer blocks, or take a smaller J."
            )
