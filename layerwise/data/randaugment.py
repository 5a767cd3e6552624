"""RandAugment on the device, as a function of given random bits.

Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search Space (2019), with the operations
and magnitudes of torchvision's transform of that name, which draws from a generator, one operation for a whole batch.
Here each image has operations of its own; images of a batch that share one go through it together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from layerwise.core.randomness import below, bits, key

STRONGEST = 30
"""The largest magnitude."""

Operation = Callable[[Tensor, float], Tensor]
"""From images uint8 [B, C, H, W] and a strength in [−1, 1] to such images."""


def _affine(images: Tensor, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    about = [0, 0] if shear != (0.0, 0.0) else None  # shears keep the upper left corner
    turned: Tensor = transforms.affine(images, 0.0, list(translate), 1.0, list(shear), center=about)
    return turned


def _slope(strength: float) -> float:
    return math.degrees(math.atan(0.3 * strength))


def _shift(side: int, strength: float) -> int:
    return int(150 / 331 * side * strength)


SIGNED: tuple[Operation, ...] = (
    lambda images, s: _affine(images, shear=(_slope(s), 0.0)),
    lambda images, s: _affine(images, shear=(0.0, _slope(s))),
    lambda images, s: _affine(images, translate=(_shift(images.shape[-1], s), 0)),
    lambda images, s: _affine(images, translate=(0, _shift(images.shape[-2], s))),
    lambda images, s: transforms.rotate(images, 30 * s),
    lambda images, s: transforms.adjust_brightness(images, 1 + 0.9 * s),
    lambda images, s: transforms.adjust_saturation(images, 1 + 0.9 * s),
    lambda images, s: transforms.adjust_contrast(images, 1 + 0.9 * s),
    lambda images, s: transforms.adjust_sharpness(images, 1 + 0.9 * s),
)
"""Operations whose direction is drawn."""

UNSIGNED: tuple[Operation, ...] = (
    lambda images, s: images,
    lambda images, s: transforms.posterize(images, 8 - round(4 * s)),
    lambda images, s: transforms.solarize(images, 255 * (1 - s)),
    lambda images, s: transforms.autocontrast(images),
    lambda images, s: transforms.equalize(images),
)
"""The others."""


@dataclass(frozen=True)
class RandAugment:
    """Some operations for each image, drawn with equal probability, all of one magnitude.

    Attributes:
        magnitude: 1 … `STRONGEST`.
        operations: how many each image goes through, one after another.
    """

    magnitude: int
    operations: int = 2

    def __call__(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """Args: pixels: uint8 [B, H, W, C]. draws: random bits, int64 [B]. Returns: uint8 [B, H, W, C]."""
        images, strength = pixels.permute(0, 3, 1, 2).contiguous(), self.magnitude / STRONGEST
        for i in range(self.operations):
            own = bits(key("randaugment", i), draws)
            chosen = below(own, len(SIGNED) + len(UNSIGNED), lane=0)
            chosen = torch.where((chosen < len(SIGNED)) & (below(own, 2, lane=1) == 1), ~chosen, chosen)
            changed = images.clone()
            for operation in chosen.unique().tolist():  # below 0 where it goes the other way
                some = (chosen == operation).nonzero().flatten()
                number = ~operation if operation < 0 else operation
                changed[some] = (*SIGNED, *UNSIGNED)[number](images[some], -strength if operation < 0 else strength)
            images = changed
        return images.permute(0, 2, 3, 1)
