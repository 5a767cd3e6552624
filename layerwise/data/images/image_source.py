"""Where the image files of a data set are: in class folders, or in records that were made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from layerwise.data.images.class_folders import TRAIN, ClassFolders
from layerwise.data.images.encoded import StoredSplit
from layerwise.data.images.records import Records, is_records


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
