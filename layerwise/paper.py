"""The paper's values for what the configuration leaves at null.

Belilovsky, Eickenberg and Oyallon, Greedy Layerwise Learning Can Scale to ImageNet (ICML 2019), and
the authors' code where the text is silent. The text counts the blocks of P_j from 0, so its j = 2 is
block 3 here: widths 128, 128, 256, 256 and a network of 5.48 M parameters for k = 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.ensemble import EnsembleOn


@dataclass(frozen=True)
class PaperValues:
    """Network and training of one experiment.

    Attributes:
        J: blocks.
        width: M, channels of the first block.
        head_width: M̃, channels of the first head's convolutions (unused for k = 1).
        downsample: 1-based numbers of the downsampled blocks.
        batch_norm: in blocks and heads.
        epochs: per block.
        batch_size: images per step.
        lr, momentum, weight_decay: of SGD.
        decay, decay_every: the learning rate is multiplied by `decay` after each such fraction of a stage.
        ensemble_on: what the 2^j ensemble averages.
    """

    J: int
    width: int
    head_width: int
    downsample: tuple[int, ...]
    batch_norm: bool
    epochs: int = 50
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay: float = 0.2
    decay_every: float = 15 / 50
    ensemble_on: EnsembleOn = EnsembleOn.logits


_CIFAR10 = {
    1: PaperValues(J=5, width=256, head_width=256, downsample=(3, 4), batch_norm=False),  # 33.67 M
    2: PaperValues(J=4, width=128, head_width=256, downsample=(3,), batch_norm=True),  # 3.12 M
    3: PaperValues(J=4, width=128, head_width=256, downsample=(3,), batch_norm=True),  # 5.48 M
}


def paper_values(k: int) -> PaperValues:
    """Section 4.1's CIFAR-10 experiments, also for the other small data sets; k ≥ 4 takes k = 3's."""
    return _CIFAR10[min(k, 3)]
