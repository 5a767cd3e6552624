"""Where the image files of a data set are: in class folders `train/<class>/…`, or in records that were made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from layerwise.core.errors import LayerwiseError
from layerwise.data.images.encoded import FileBytes, Files, StoredSplit
from layerwise.data.images.records import Records, is_records

TRAIN, VAL = "train", "val"


class ImageSource(Protocol):
    """Encoded images of train and val, in the same order wherever they lie.

    Attributes:
        classes: names of the class folders, in the order of the labels.
        preparation: how the images were changed before they were stored, in words; empty if they were not.
    """

    classes: list[str]
    preparation: str

    def count(self, split: str) -> int:
        """Images of `train` or `val`."""

    def images(self, split: str) -> StoredSplit:
        """Those images and their labels."""

    def check_size(self, size: int, short_side: Callable[[int], int]) -> None:
        """Refuses a resolution for which the images would have to be enlarged because they were prepared.

        Args:
            size: in pixels.
            short_side: the short side that images of a resolution are cut from.
        """


def is_source(folder: Path) -> bool:
    """Whether a folder has train/, or records."""
    return (folder / TRAIN).is_dir() or is_records(folder)


def open_source(folder: Path) -> ImageSource:
    """The images of a folder with train/<class>/… and val/<class>/…, or of one with records.

    Raises:
        LayerwiseError: they are not complete.
    """
    return Records(folder) if is_records(folder) else ClassFolders(folder)


class ClassFolders:
    """Image files in `train/<class>/…` and `val/<class>/…`, as `folders.ImageSource` asks for them.

    Args:
        root: the folder with train/ and val/.

    Raises:
        LayerwiseError: see `common_classes`.
    """

    preparation = ""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.classes = common_classes(root)

    def count(self, split: str) -> int:
        return len(list_images(self.root / split)[0])

    def images(self, split: str) -> StoredSplit:
        files, labels = list_images(self.root / split)
        return StoredSplit(FileBytes(files), labels)

    def check_size(self, size: int, short_side: Callable[[int], int]) -> None:
        """Any will do: the images are what there is."""


def classes_of(folder: Path) -> list[str]:
    """Names of the class folders, in the order of the labels.

    Raises:
        LayerwiseError: the folder is missing or has fewer than two class folders.
    """
    if not folder.is_dir():
        raise LayerwiseError(
            f"dataset.root={folder.parent}: there is no folder {folder}. "
            "An image folder needs train/<class>/… and val/<class>/…; say where: dataset.root=FOLDER."
        )
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if len(classes) < 2:
        raise LayerwiseError(f"{folder}: {len(classes)} class folder(s) found; classification needs two or more.")
    return classes


def common_classes(root: Path) -> list[str]:
    """The classes of train/ and val/.

    Raises:
        LayerwiseError: as `classes_of`, or they differ.
    """
    classes = classes_of(root / TRAIN)
    if (val_classes := classes_of(root / VAL)) != classes:
        missing, unknown = sorted(set(classes) - set(val_classes)), sorted(set(val_classes) - set(classes))
        raise LayerwiseError(
            f"{root / VAL} has other classes than {root / TRAIN}: "
            f"missing {missing or 'none'}, unknown {unknown or 'none'}. Both need the same class folders."
        )
    return classes


def list_images(folder: Path) -> tuple[Files, Tensor]:
    """Image files of all classes, sorted by class and path, and their labels int64 [N].

    Raises:
        LayerwiseError: as `classes_of`, or a class folder without images.
    """
    files: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes_of(folder)):
        found = sorted(
            os.fsencode(f"{where}{os.sep}{file}")
            for where, _, names in os.walk(folder / name, followlinks=True)
            for file in names
            if file.lower().endswith(IMG_EXTENSIONS)
        )
        if not found:
            raise LayerwiseError(f"{folder / name} holds no images ({', '.join(IMG_EXTENSIONS)}).")
        files += found
        labels += [label] * len(found)
    return np.array(files), torch.tensor(labels)
