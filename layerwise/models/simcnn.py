"""SimCNN: the paper's simple convolutional network (section 4.1), block by block.

    x_{j+1} = ρ W_θj P_j x_j         P_j: downsampling or identity, W: 3×3 convolution, ρ: ReLU

In the paper width M doubles at each downsampled block, and so does the width M̃ of the heads behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.activations import activation_layers
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Activation, Downsampling, EnsembleOn, HeadKind, Initialisation
from layerwise.models.downsampling import downsample_and_convolve
from layerwise.models.heads import QUADRANTS, auxiliary_head
from layerwise.models.initialisation import initialise_convolutions
from layerwise.models.whitening import Whitening


def simcnn(
    image_shape: Shape,
    classes: int,
    *,
    k: int,
    J: int,
    width: int | Sequence[int],
    head_width: int | Sequence[int],
    downsample: Sequence[int],
    downsampling: Downsampling,
    batch_norm: bool,
    bias: bool | None = None,
    input_downsample: bool = False,
    whiten_input: bool = False,
    head: HeadKind = HeadKind.cnn,
    final_head_width: int | None = None,
    pool: int = QUADRANTS,
    activation: Activation = Activation.relu,
    initialisation: Initialisation = Initialisation.pytorch,
    ensemble_on: EnsembleOn = EnsembleOn.logits,
    depths: Collection[int] | None = None,
    seed: int = 0,
) -> BlockNet:
    """Builds a SimCNN, by default with PyTorch's initialisation, as the paper's code does.

    Each block and head is initialised from its own seed, so it starts the same whatever stands
    beside it.

    Args:
        image_shape: (C, H, W) of x_0.
        classes: number of classes c.
        k: hidden layers of each greedy problem; the heads have k−1 convolutions.
        J: number of blocks.
        width: M, channels of the first block, from which the others follow; or of each of the J blocks.
        head_width: M̃, channels of the first head's convolutions; likewise.
        downsample: 1-based numbers of the blocks that halve the resolution.
        downsampling: how they do it.
        batch_norm: between W and ρ, and in the heads.
        bias: of every W; None for the paper's code: none before a batch norm, and for k = 1 in block 1 alone.
        input_downsample: move 2×2 pixels of the image into channels first, without widening (ImageNet).
        whiten_input: before block 1's W stand a fixed whitening of the image's patches, which is to be fitted, and ρ.
        head: which auxiliary classifiers.
        final_head_width: M̃_f, channels of the last head's convolutions; None for what M̃ grew to.
        pool: positions per side that the heads average to.
        activation: ρ in blocks and heads of convolutions.
        initialisation: of the convolutions: pytorch, he or dirac.
        ensemble_on: what the ensemble of the heads averages.
        depths: depths that get a head; all by default.
        seed: of the initialisation.

    Raises:
        LayerwiseError: a downsampled block does not exist, or the resolution cannot be halved.
    """
    check_resolution(image_shape, J, downsample, input_downsample)
    widths, head_widths = (_each(given, J, downsample) for given in (width, head_width))
    blocks, heads = [], {}
    channels, height, wide = image_shape
    for j, M, head_M in zip(range(1, J + 1), widths, head_widths, strict=True):
        layers: list[nn.Module] = []
        if j == 1 and input_downsample:
            layers += [nn.PixelUnshuffle(2)]  # [B, C, H, W] → [B, 4C, H/2, W/2]
            channels, height, wide = 4 * channels, height // 2, wide // 2
        if j == 1 and whiten_input:
            whitening = Whitening(channels)
            layers += [whitening, *activation_layers(activation)]
            channels = whitening.out_channels
        if j in downsample:
            height, wide = height // 2, wide // 2
        with seeded(key("block", seed, j)):
            operator = downsampling if j in downsample else None
            biased = not batch_norm and (k > 1 or j == 1) if bias is None else bias
            layers += downsample_and_convolve(channels, M, operator, bias=biased)
            layers += [nn.BatchNorm2d(M)] if batch_norm else []
            block = nn.Sequential(*layers, *activation_layers(activation))
            blocks.append(initialise_convolutions(block, initialisation, identity=True))
        if depths is None or j in depths:
            m = final_head_width if j == J and final_head_width is not None else head_M
            shape = (M, height, wide)
            with seeded(key("head", seed, j)):
                reader = auxiliary_head(
                    head, shape, classes, k=k, width=m, batch_norm=batch_norm, pool=pool, activation=activation
                )
                heads[j] = initialise_convolutions(reader, initialisation)
        channels = M
    return BlockNet(blocks, heads, ensemble_on)


def _each(width: int | Sequence[int], J: int, downsample: Sequence[int]) -> Sequence[int]:
    """Widths of all blocks or heads: as given, or of the first one, doubled at each downsampled block."""
    if not isinstance(width, int):
        return width
    return [width * 2 ** sum(d <= j for d in downsample) for j in range(1, J + 1)]


def check_resolution(image_shape: Shape, J: int, downsample: Sequence[int], input_downsample: bool = False) -> None:
    """Refuses downsampled blocks that do not exist or that halve too often.

    Raises:
        LayerwiseError: names `model.downsample`, the block and its resolution.
    """
    _, height, width = image_shape
    if min(height, width) < QUADRANTS:
        raise LayerwiseError(f"images of {height}×{width} pixels are too small: a head needs 2×2 (dataset.size).")
    if len(set(downsample)) < len(downsample):
        raise LayerwiseError(f"model.downsample={list(downsample)}: names a block twice.")
    if input_downsample:
        if height % 2 or width % 2:
            raise LayerwiseError(f"model.input_downsample=true: images of {height}×{width} pixels cannot be halved.")
        height, width = height // 2, width // 2
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
