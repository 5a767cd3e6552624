"""Data sets: one file each, and here the two questions that the rest asks about all of them."""

from __future__ import annotations

from pathlib import Path

import torch

from layerwise.data import digits, imagefolder, imagenet, torchvision_sets
from layerwise.data.augment import CropFlip
from layerwise.data.images import DatasetSpec, ImageData, ResidentImages, Split, SplitName
from layerwise.data.split import hold_out, limit
from layerwise.environment import available_memory
from layerwise.errors import LayerwiseError

__all__ = ["NAMES", "DatasetSpec", "ImageData", "Split", "SplitName", "describe", "load"]

NAMES = (*torchvision_sets.SPECS, "digits", *imagenet.NAMES, "imagefolder")


def describe(name: str, root: Path, size: int | None = None) -> DatasetSpec:
    """Shape, classes and statistics of a data set, without reading its images.

    Args:
        name: one of `NAMES`.
        root: where data sets lie; for `imagefolder` the folder with train/ and val/.
        size: resolution in pixels; for data sets of image files only.
    """
    if name in ("imagefolder", *imagenet.NAMES):
        if size is None:
            raise LayerwiseError(f"dataset.size: {name} needs a resolution in pixels, such as dataset.size=64.")
        return imagefolder.spec(root, size) if name == "imagefolder" else imagenet.spec(name, root, size)
    return digits.SPEC if name == "digits" else torchvision_sets.SPECS[name]


def load(
    spec: DatasetSpec,
    root: Path,
    device: torch.device,
    *,
    validation: float = 0.0,
    limit_train: int | None = None,
    limit_test: int | None = None,
    augment: bool = True,
    seed: int = 0,
    workers: int = 0,
    skip_unreadable: bool = False,
) -> ImageData:
    """Reads a data set and puts it on the device where it fits.

    Args:
        spec: from `describe`.
        root: as there.
        device: where batches are prepared.
        validation: fraction of the training images that is held out, class-balanced.
        limit_train: number of training images, the first of a seeded, class-balanced order.
        limit_test: likewise of the test images.
        augment: crop and flip training images as `spec` says.
        seed: of splits and augmentation.
        workers: processes that decode image files.
        skip_unreadable: leaves image files out that cannot be decoded; else they are an error.

    Raises:
        LayerwiseError: see the data sets' modules and `split`.
    """
    train, test = _read(spec, root, device, workers, seed if augment else None, skip_unreadable)
    splits: dict[SplitName, Split] = {"train": train, "test": test}
    if validation:
        kept, held = hold_out(train.labels, validation, seed)
        splits |= {"train": train.take(kept), "validation": train.take(held)}
    if limit_train is not None:
        chosen = limit(splits["train"].labels, limit_train, seed, "dataset.limit")
        splits["train"] = splits["train"].take(chosen)
    if limit_test is not None:
        splits["test"] = test.take(limit(test.labels, limit_test, seed, "dataset.limit_test"))
    crop_flip = CropFlip(spec.padding, spec.flip) if augment and not spec.resized_crop else None
    return ImageData(spec, splits, crop_flip, seed, device)


def _read(
    spec: DatasetSpec, root: Path, device: torch.device, workers: int, crop_seed: int | None, skip_unreadable: bool
) -> tuple[Split, Split]:
    if spec.name in imagenet.NAMES:
        return imagenet.read(spec.name, root, spec.shape[1], device, workers, crop_seed, skip_unreadable)
    if spec.name == "imagefolder":
        budget = available_memory(device) // 4
        return imagefolder.read(root, spec.shape[1], device, workers, budget, skip_unreadable)
    train, test = digits.read(root) if spec.name == "digits" else torchvision_sets.read(spec.name, root)
    return ResidentImages(*train, device), ResidentImages(*test, device)
