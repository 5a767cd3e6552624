"""Any folder of images by class (see `folders.ClassFolders`), or its records, at one resolution.

Images are decoded, resized (short side) and cut (centre) to size × size once where they fit the
memory, else batch by batch in worker processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from layerwise.core.machine import available_memory
from layerwise.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DatasetSpec, Split
from layerwise.data.images.encoded import Cut, EncodedImages
from layerwise.data.images.folders import TRAIN, VAL, ClassFolders, ImageSource, open_source
from layerwise.data.images.records import is_records
from layerwise.data.reader import Reader
from layerwise.data.split import TEST_PART


@dataclass(frozen=True)
class ImageFolder(Reader):
    """`dataset=imagefolder`. The statistics are ImageNet's.

    Args:
        root: the folder, or its records.
        size: resolution in pixels.
        exif: turns images as their EXIF orientations say.
        workers: processes that decode; None for one per usable core.
        skip_unreadable: decodes all images when they are read and leaves those out that cannot be.
        test: share of the images to test on where there is no val/.
        budget_bytes: memory on the device that decoded images may take; None for a quarter of what is free.

    Raises:
        LayerwiseError: there are no class folders, or one without images, or train/ and val/ have different ones; an
            unreadable image; or records are damaged, or were made too small or with other orientations.
    """

    root: Path
    size: int
    exif: bool = False
    workers: int | None = 0
    skip_unreadable: bool = False
    test: float = TEST_PART
    budget_bytes: int | None = None

    def source(self) -> ImageSource:
        """Returns the images as they are stored."""
        return open_source(self.root, self.test)

    def spec(self) -> DatasetSpec:
        source, size = self.source(), self.size
        source.check_size(size, lambda size: size)
        source.check_exif(self.exif)
        return DatasetSpec(
            name="imagefolder",
            shape=(3, size, size),
            classes=tuple(source.classes),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            padding=max(1, size // 8),
            flip=True,
            train_samples=source.count(TRAIN),
            test_samples=source.count(VAL),
            preparation=source.preparation,
            digest=source.digest(),
            exif=self.exif,
            title=self.root.resolve().name,
        )

    def read(self, device: torch.device, crop_seed: int | None = None) -> tuple[Split, Split]:
        cut = Cut(self.size, short_side=self.size, exif=self.exif)
        source = self.source()
        splits = [EncodedImages.of(source.images(name), cut, device, self.workers) for name in (TRAIN, VAL)]
        if self.skip_unreadable:
            splits = [split.readable(source.classes) for split in splits]
        budget = available_memory(device) // 4 if self.budget_bytes is None else self.budget_bytes
        if sum(len(split) for split in splits) * self.size**2 * 3 > budget:
            return splits[0], splits[1]
        resident = [split.decoded() for split in splits]
        return resident[0], resident[1]

    def listing(self) -> str:
        return "" if is_records(self.root) else ClassFolders(self.root, self.test).listing()
