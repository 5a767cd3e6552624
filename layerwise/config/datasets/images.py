"""Data sets of images: those of torchvision, and `dataset=digits`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from layerwise.config.datasets.base import DatasetConfig
from layerwise.config.outside import Outside
from layerwise.data.choices import Border, Flip

if TYPE_CHECKING:  # torch
    from layerwise.data.dataset import DatasetSpec
    from layerwise.data.reader import Reader


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

    def augmented(self, spec: DatasetSpec) -> DatasetSpec:
        from layerwise.data.augmentation import augmented  # loads torch

        return augmented(
            spec,
            self.flip,
            self.cutout,
            self.padding,
            self.border,
            erasing=self.erasing,
            randaugment=self.randaugment,
            randaugment_ops=self.randaugment_ops,
            mixup=self.mixup,
            cutmix=self.cutmix,
        )

    def plain(self) -> DatasetConfig:
        return replace(self, augment=False)

    @property
    def augments(self) -> bool:
        return self.augment


@dataclass
class TorchvisionConfig(ImagesConfig):
    """The keys of a data set of `data/torchvision_sets.py`."""

    def reader(self, function: Outside | None) -> Reader:
        from layerwise.data.torchvision_sets import SETS

        return SETS[self.name](Path(self.root))


@dataclass
class TorchvisionSignsConfig(TorchvisionConfig):
    """Those whose images show digits, which are other signs when they are mirrored."""

    mirrored: ClassVar[bool] = False


@dataclass
class DigitsConfig(ImagesConfig):
    """The keys of conf/dataset/digits.yaml."""

    mirrored: ClassVar[bool] = False

    def reader(self, function: Outside | None) -> Reader:
        from layerwise.data.toy import Digits

        return Digits()
