"""Data sets of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from layerwise.config.datasets.base import DatasetConfig
from layerwise.data.choices import Border, Flip


@dataclass
class ImagesConfig(DatasetConfig):
    """The keys of conf/dataset/base_images.yaml."""

    mirrored: ClassVar[bool] = True  # whether a mirrored image is of the same class

    augment: bool = True
    flip: Flip = Flip.random
    cutout: int = 0
    padding: int | None = None
    border: Border = Border.black
    randaugment: int = 0
    randaugment_ops: int = 2
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    fresh_views: bool = False

    @property
    def augments(self) -> bool:
        return self.augment


@dataclass
class SignsConfig(ImagesConfig):
    """Images of digits, which are other signs when they are mirrored."""

    mirrored: ClassVar[bool] = False
