"""The paper's values for what the configuration leaves at null.

Belilovsky, Eickenberg and Oyallon, Greedy Layerwise Learning Can Scale to ImageNet (ICML 2019), and
the authors' code where the text is silent. The text counts the blocks of P_j from 0, so its j = 2 is
block 3 here: widths 128, 128, 256, 256 and a network of 5.48 M parameters for k = 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.models.choices import Downsampling, EnsembleOn


@dataclass(frozen=True)
class SimCnnValues:
    """The SimCNN of one experiment.

    Attributes:
        width: M, channels of the first block.
        head_width: M̃, channels of the first head's convolutions (unused for k = 1).
        downsample: 1-based numbers of the downsampled blocks.
        batch_norm: in blocks and heads.
        downsampling: the operator P.
        input_downsample: P is applied once to the images, too.
        pool: positions per side that the heads average to.
    """

    J: int
    width: int
    head_width: int
    downsample: tuple[int, ...]
    batch_norm: bool
    downsampling: Downsampling = Downsampling.invertible
    input_downsample: bool = False
    pool: int = 2


@dataclass(frozen=True)
class TrainingValues:
    """The training of one experiment.

    Attributes:
        decay, decay_every: the learning rate is multiplied by `decay` after each such fraction of a stage.
        ensemble_on: what the 2^j ensemble averages.
    """

    epochs: int
    batch_size: int
    weight_decay: float
    decay: float
    decay_every: float
    ensemble_on: EnsembleOn
    lr: float = 0.1
    momentum: float = 0.9


_CIFAR10 = {
    1: SimCnnValues(J=5, width=256, head_width=256, downsample=(3, 4), batch_norm=False),  # 33,668,106
    2: SimCnnValues(J=4, width=128, head_width=256, downsample=(3,), batch_norm=True),  # 3.12 M
    3: SimCnnValues(J=4, width=128, head_width=256, downsample=(3,), batch_norm=True),  # 5.48 M
}

_IMAGENET = {
    1: SimCnnValues(
        J=6,
        width=256,
        head_width=256,
        downsample=(3, 4, 5),
        batch_norm=False,
        downsampling=Downsampling.stride,
        input_downsample=True,
        pool=4,
    ),  # table 7: 95.91 M
    2: SimCnnValues(
        J=8, width=128, head_width=256, downsample=(3, 5, 7), batch_norm=True, input_downsample=True
    ),  # 64.40 M
    3: SimCnnValues(
        J=8, width=128, head_width=256, downsample=(3, 5, 7), batch_norm=True, input_downsample=True
    ),  # 102.16 M
}

_CIFAR10_TRAINING = TrainingValues(
    epochs=50, batch_size=128, weight_decay=5e-4, decay=0.2, decay_every=15 / 50, ensemble_on=EnsembleOn.logits
)
_IMAGENET_TRAINING = TrainingValues(
    epochs=45, batch_size=256, weight_decay=1e-4, decay=0.1, decay_every=20 / 45, ensemble_on=EnsembleOn.probabilities
)


def simcnn_values(k: int, like_imagenet: bool = False) -> SimCnnValues:
    """The network for ImageNet or CIFAR-10; k ≥ 4 takes k = 3's."""
    return (_IMAGENET if like_imagenet else _CIFAR10)[min(k, 3)]


def training_values(like_imagenet: bool) -> TrainingValues:
    """The training for ImageNet or CIFAR-10."""
    return _IMAGENET_TRAINING if like_imagenet else _CIFAR10_TRAINING
