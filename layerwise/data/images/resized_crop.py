"""ImageNet's augmentation: a random part of the image, resized to a square, and mirrored every second time.

Boxes are drawn as torchvision's RandomResizedCrop draws them, but each draw is a pure function of
(seed, view, sample number), so an image is the same in any batch, order and worker process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from layerwise.core.randomness import below, bits, key

SCALE = (0.08, 1.0)  # share of the image's area
RATIO = (3 / 4, 4 / 3)  # width ÷ height
ATTEMPTS = 10
LANE_BITS = 21  # of one draw


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Draws(NamedTuple):
    """The randomness of one image in one view, integers in [0, 2^21).

    Attributes:
        attempts: for each attempt to find a box (area, ratio, top, left).
        mirrored: 0 or 1.
    """

    attempts: list[list[int]]
    mirrored: int


@dataclass(frozen=True)
class ResizedCrop:
    """Crop, resize and flip.

    Attributes:
        size: side of the result in pixels.
        seed: of the draws.
    """

    size: int
    seed: int

    def draw(self, view: int, samples: Tensor) -> list[Draws]:
        """Args: samples: int64 [B], numbers in the full data set. Returns: the draws of each."""
        counters = samples[:, None] * (2 * ATTEMPTS) + torch.arange(2 * ATTEMPTS)
        random = bits(key("augment", self.seed, view), counters).view(-1, ATTEMPTS, 2)
        lanes = [below(random[..., word], 1 << LANE_BITS, lane) for word in (0, 1) for lane in (0, 1)]
        attempts = torch.stack(lanes, dim=-1).tolist()  # [B, ATTEMPTS, 4]
        mirrored = below(random[:, 0, 0], 2, lane=2).tolist()
        return [Draws(*of_image) for of_image in zip(attempts, mirrored, strict=True)]

    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Args: image: uint8 [3, H, W]. Returns: uint8 [3, size, size]."""
        box = choose_box(draws.attempts, image.shape[-2], image.shape[-1])
        resized: Tensor = transforms.resized_crop(image, *box, size=[self.size, self.size], antialias=True)
        return resized.flip(-1) if draws.mirrored else resized


def choose_box(attempts: list[list[int]], height: int, width: int) -> Box:
    """The first attempt that fits into the image, else the largest central box of an allowed ratio."""
    for area, ratio, top, left in attempts:
        pixels = _between(*SCALE, area) * height * width
        w_over_h = math.exp(_between(math.log(RATIO[0]), math.log(RATIO[1]), ratio))
        w, h = round(math.sqrt(pixels * w_over_h)), round(math.sqrt(pixels / w_over_h))
        if 0 < w <= width and 0 < h <= height:
            return Box(top * (height - h + 1) >> LANE_BITS, left * (width - w + 1) >> LANE_BITS, h, w)
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def _between(low: float, high: float, draw: int) -> float:
    return low + (high - low) * draw / (1 << LANE_BITS)
