"""Any folder of images by class (see `folders.ClassFolders`), or its records, at one resolution.

Images are decoded, resized (short side) and cut (centre) to size × size once where they fit the
memory, else batch by batch in worker processes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from layerwise.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DatasetSpec, Split
from layerwise.data.images.encoded import Cut, EncodedImages
from layerwise.data.images.folders import TRAIN, VAL, open_source
from layerwise.data.split import TEST_PART


def spec(root: Path, size: int, test: float = TEST_PART, exif: bool = False) -> DatasetSpec:
    """Classes and shape of a folder; the statistics are ImageNet's.

    Args:
        size: resolution in pixels.
        test: share of the images to test on where there is no val/.
        exif: turns images as their EXIF orientations say.

    Raises:
        LayerwiseError: there are no class folders, or train/ and val/ have different ones; or records are damaged, or
            were made too small or with other orientations.
    """
    source = open_source(root, test)
    source.check_size(size, lambda size: size)
    source.check_exif(exif)
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
        exif=exif,
        title=root.resolve().name,
    )


def read(
    root: Path,
    size: int,
    device: torch.device,
    workers: int,
    budget_bytes: int,
    skip_unreadable: bool = False,
    test: float = TEST_PART,
    exif: bool = False,
) -> tuple[Split, Split]:
    """Returns train and val images, resident on the device if both fit the budget, else streamed.

    Args:
        root, size, test, exif: as for `spec`.
        budget_bytes: memory on the device that decoded images may take.
        skip_unreadable: decodes all images now and leaves those out that cannot be.

    Raises:
        LayerwiseError: a class folder without images, or an unreadable image (both are named).
    """
    cut = Cut(size, short_side=size, exif=exif)
    source = open_source(root, test)
    splits = [EncodedImages.of(source.images(name), cut, device, workers) for name in (TRAIN, VAL)]
    if skip_unreadable:
        splits = [split.readable(source.classes) for split in splits]
    if sum(len(split) for split in splits) * size * size * 3 > budget_bytes:
        return splits[0], splits[1]
    resident = [split.decoded() for split in splits]
    return resident[0], resident[1]
