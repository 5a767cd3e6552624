"""SimCNN: the paper's simple convolutional network (section 4.1), block by block.

    x_{j+1} = ρ W_θj P_j x_j         P_j: downsampling or identity, W: 3×3 convolution, ρ: ReLU

Width M doubles at each downsampled block, and so does the width M̃ of the heads behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from layerwise.counters import key, seeded
from layerwise.downsampling import Downsampling, downsample_and_convolve
from layerwise.ensemble import EnsembleOn
from layerwise.errors import LayerwiseError
from layerwise.heads import QUADRANTS, cnn_head
from layerwise.models.blocknet import BlockNet


def simcnn(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    k: int,
    J: int,
    width: int,
    head_width: int,
    downsample: Sequence[int],
    downsampling: Downsampling,
    batch_norm: bool,
    ensemble_on: EnsembleOn = EnsembleOn.logits,
    depths: Collection[int] | None = None,
    seed: int = 0,
) -> BlockNet:
    """Builds a SimCNN with PyTorch's default initialisation, as the paper's code does.

    Each block and head is initialised from its own seed, so it starts the same whatever stands
    beside it.

    Args:
        image_shape: (C, H, W) of x_0.
        classes: number of classes c.
        k: hidden layers of each greedy problem; the heads have k−1 convolutions.
        J: number of blocks.
        width: M, channels of the first block.
        head_width: M̃, channels of the first head's convolutions.
        downsample: 1-based numbers of the blocks that halve the resolution.
        downsampling: how they do it.
        batch_norm: between W and ρ, and in the heads.
        ensemble_on: what the ensemble of the heads averages.
        depths: depths that get a head; all by default.
        seed: of the initialisation.

    Raises:
        LayerwiseError: a downsampled block does not exist, or the resolution cannot be halved.
    """
    check_resolution(image_shape, J, downsample)
    blocks, heads = [], {}
    channels = image_shape[0]
    for j in range(1, J + 1):
        if j in downsample:
            width, head_width = 2 * width, 2 * head_width
        with seeded(key("block", seed, j)):
            operator = downsampling if j in downsample else None
            layers = downsample_and_convolve(channels, width, operator, bias=not batch_norm)
            layers += [nn.BatchNorm2d(width)] if batch_norm else []
            blocks.append(nn.Sequential(*layers, nn.ReLU(inplace=True)))
        if depths is None or j in depths:
            with seeded(key("head", seed, j)):
                heads[j] = cnn_head(width, classes, k=k, width=head_width, batch_norm=batch_norm)
        channels = width
    return BlockNet(blocks, heads, ensemble_on)


def check_resolution(image_shape: tuple[int, int, int], J: int, downsample: Sequence[int]) -> None:
    """Refuses downsampled blocks that do not exist or that halve too often.

    Raises:
        LayerwiseError: names `model.downsample`, the block and its resolution.
    """
    _, height, width = image_shape
    if min(height, width) < QUADRANTS:
        raise LayerwiseError(f"images of {height}×{width} pixels are too small: a head needs 2×2 (dataset.size).")
    if len(set(downsample)) < len(downsample):
        raise LayerwiseError(f"model.downsample={list(downsample)}: names a block twice.")
    for j in sorted(downsample):
        if not 1 <= j <= J:
            raise LayerwiseError(
                f"model.downsample={list(downsample)}: block {j} does not exist; blocks are 1 … {J} (J={J})."
            )
        if height % 2 or width % 2:
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
