"""Any folder of images with `train/<class>/…` and `val/<class>/…`, or its records, at one resolution.

Images are decoded, resized (short side) and cut (centre) to size × size once where they fit the
memory, else batch by batch in worker processes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from layerwise.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DatasetSpec, Split
from layerwise.data.images.encoded import Cut, EncodedImages
from layerwise.data.images.folders import TRAIN, VAL, open_source


def spec(root: Path, size: int) -> DatasetSpec:
    """Classes and shape of a folder; the statistics are ImageNet's.

    Raises:
        LayerwiseError: train/ or val/ is missing or has no class folders, or their classes differ; or records are
            damaged, or were made too small.
    """
    source = open_source(root)
    source.check_size(size, lambda size: size)
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
    )


def read(
    root: Path, size: int, device: torch.device, workers: int, budget_bytes: int, skip_unreadable: bool = False
) -> tuple[Split, Split]:
    """Train and val images, resident on the device if both fit the budget, else streamed.

    Args:
        skip_unreadable: decodes all images now and leaves those out that cannot be.

    Raises:
        LayerwiseError: a class folder without images, or an unreadable image (both are named).
    """
    cut = Cut(size, short_side=size)
    source = open_source(root)
    splits = [EncodedImages.of(source.images(name), cut, device, workers) for name in (TRAIN, VAL)]
    if skip_unreadable:
        splits = [split.readable() for split in splits]
    if sum(len(split) for split in splits) * size * size * 3 > budget_bytes:
        return splits[0], splits[1]
    resident = [split.decoded() for split in splits]
    return resident[0], resident[1]
