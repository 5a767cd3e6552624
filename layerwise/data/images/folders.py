"""Where the image files of a data set are: in class folders `train/<class>/…`, or in records that were made of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from layerwise.core.distributed import say_once
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key
from layerwise.data.fingerprint import of_files
from layerwise.data.images.encoded import FileBytes, Files, StoredSplit
from layerwise.data.images.listing import EXTENSIONS, LeftOut, Walk, loose_images, subfolders
from layerwise.data.images.records import Records, is_records
from layerwise.data.split import TEST_PART, test_part

TRAIN, VAL = "train", "val"
OTHER_VALS = ("valid", "validation", "test", "dev")
"""How held-out images are called elsewhere."""

PARTS = {TRAIN, VAL, *OTHER_VALS, "training", "testing", "eval", "evaluation", "holdout"}
"""Names of folders, in lower case, that hold a part of the images and no class."""


class ImageSource(Protocol):
    """Encoded images of train and val, in the same order wherever they lie.

    Attributes:
        classes: names of the class folders, in the order of the labels.
        preparation: how the images were changed before they were stored, in words; empty if they were not.
    """

    classes: list[str]
    preparation: str

    def digest(self) -> str:
        """Returns 8 hexadecimal digits that change with the images."""

    def count(self, split: str) -> int:
        """Returns the number of images of `train` or `val`."""

    def images(self, split: str) -> StoredSplit:
        """Returns those images and their labels."""

    def check_size(self, size: int, short_side: Callable[[int], int]) -> None:
        """Refuses a resolution for which the images would have to be enlarged because they were prepared.

        Args:
            size: in pixels.
            short_side: the short side that images of a resolution are cut from.
        """

    def check_exif(self, exif: bool) -> None:
        """Refuses to apply, or not to apply, EXIF orientations that were lost or applied when images were prepared."""


def is_source(folder: Path) -> bool:
    """Whether a folder has train/, or records."""
    return (folder / TRAIN).is_dir() or is_records(folder)


def open_source(folder: Path, test: float = TEST_PART) -> ImageSource:
    """Returns the images of a folder with class folders, or of one with records.

    Args:
        folder: see `ClassFolders`.
        test: there.

    Raises:
        LayerwiseError: they are not complete.
    """
    source = Records(folder) if is_records(folder) else ClassFolders(folder, test)
    if test != TEST_PART and (isinstance(source, Records) or source.val is not None):
        say_once(f"warning: {folder}: has test images of its own, so dataset.test={test} has no effect")
    return source


class ClassFolders:
    """Image files in `train/<class>/…` and `val/<class>/…`.

    Without val/ a part of the training images is set apart for testing, stratified and always the same. Without train/
    as well the class folders lie in the root itself.

    Args:
        root: the folder with train/ and val/, with train/, or with the class folders.
        test: that part, in (0, 1); None refuses a folder without val/.

    Raises:
        LayerwiseError: there are no class folders, or those of val/ are others than those of train/.
    """

    preparation = ""

    def __init__(self, root: Path, test: float | None = None) -> None:
        self.root, self.test = root, test
        bare = test is not None and not (root / TRAIN).is_dir() and not (root / VAL).is_dir() and root.is_dir()
        self.train = root if bare and (subfolders(root) or loose_images(root)) else root / TRAIN
        parts = (
            [folder.name for folder in subfolders(root) if folder.name.lower() in PARTS] if self.train == root else []
        )
        if len(parts) > 1:  # a single one may be a class, such as Train beside Bus
            raise LayerwiseError(
                f"{root}: holds {', '.join(parts)}, which would be taken for classes. Name the folder of the training "
                f"images {TRAIN} and that of the test images {VAL}."
            )
        self.val = None if test is not None and not (root / VAL).is_dir() else root / VAL
        self.classes = classes_of(self.train)
        if self.val is not None:
            self._check_val(self.val)
        elif other := [name for name in OTHER_VALS if self.train != root and (root / name).is_dir()]:
            raise LayerwiseError(
                f"{root}: holds {other[0]} and no {VAL}. Rename {root / other[0]} to {VAL} to test on its images, or "
                "move it elsewhere to test on a part of the training images (dataset.test)."
            )

    def digest(self) -> str:
        """Of names, sizes and modification times, in seconds, which copies with their times keep."""
        digest = hashlib.sha256()
        for folder in (self.train,) if self.val is None else (self.train, self.val):
            for file in self._files_of(folder)[0]:
                status = Path(os.fsdecode(file)).stat()
                name = os.path.relpath(file, os.fsencode(folder))
                digest.update(b"%s\0%d\0%d\0" % (name, status.st_size, int(status.st_mtime)))
        return digest.hexdigest()[:8]

    def listing(self) -> str:
        """Returns a line for each image file, in `data.fingerprint`'s form."""
        folders = (self.train,) if self.val is None else (self.train, self.val)
        return "\n".join(line for folder in folders for line in of_files(self.root, self._files_of(folder)[0]))

    def count(self, split: str) -> int:
        return len(self._list(split)[0])

    def images(self, split: str) -> StoredSplit:
        files, labels, left_out = self._list(split)
        if said := left_out.in_words():
            say_once(f"{self.train if split == TRAIN else self.val}: left out: {said}")
        if split == VAL and self.val is None:
            part = f"the same {len(files)} images are always set apart for testing (dataset.test={self.test})"
            say_once(f"{self.root}: has no folder {VAL}; {part}")
        return StoredSplit(FileBytes(files), labels)

    def check_size(self, size: int, short_side: Callable[[int], int]) -> None:
        """Any will do: the images are what there is."""

    def check_exif(self, exif: bool) -> None:
        """Either will do: the files have their orientations."""

    def check_output(self, output: Path) -> None:
        """Refuses a folder to write to that would be taken for a class."""
        for folder in (self.train, self.val):
            if folder is not None and output.resolve().is_relative_to(folder.resolve()):
                raise LayerwiseError(
                    f"{output}: lies in {folder}, where each folder is taken for a class. Choose another folder."
                )

    def _list(self, split: str) -> tuple[Files, Tensor, LeftOut]:
        if self.val is not None:
            return self._files_of(self.train if split == TRAIN else self.val)
        files, labels, left_out = list_images(self.train)
        assert self.test is not None
        train, test = test_part(labels, self.test, key("imagefolder", "test"), str(self.train))
        chosen = train if split == TRAIN else test
        return files[chosen.numpy()], labels[chosen], left_out if split == TRAIN else LeftOut()

    def _files_of(self, folder: Path) -> tuple[Files, Tensor, LeftOut]:
        """Of train/ or val/, without what a link leads to in the other one."""
        parts = (self.train,) if self.val is None else (self.train, self.val)
        return list_images(folder, [class_folder for part in parts for class_folder in subfolders(part)])

    def _check_val(self, val: Path) -> None:
        if val.is_dir() and not subfolders(val) and (loose := loose_images(val)):
            raise LayerwiseError(
                f"{val}: holds {len(loose)} images and no class folders, so that their classes are not known. Move "
                f"each into a folder such as {val / self.classes[0]}; or move {val} elsewhere to test on a part of the "
                "training images (dataset.test)."
            )
        if (val_classes := classes_of(val)) != self.classes:
            missing = sorted(set(self.classes) - set(val_classes)) or "none"
            unknown = sorted(set(val_classes) - set(self.classes)) or "none"
            raise LayerwiseError(
                f"{val} has other classes than {self.train}: missing {missing}, unknown {unknown}. "
                "Both need the same class folders."
            )


def classes_of(folder: Path) -> list[str]:
    """Returns the names of the class folders, in the order of the labels.

    Raises:
        LayerwiseError: the folder is missing or has fewer than two class folders.
    """
    if not folder.is_dir():
        raise LayerwiseError(
            f"dataset.root={folder.parent}: there is no folder {folder}. "
            "An image folder needs train/<class>/… and val/<class>/…; say where: dataset.root=FOLDER."
        )
    classes = [entry.name for entry in subfolders(folder)]
    if len(classes) < 2 and (loose := loose_images(folder)):
        raise LayerwiseError(
            f"{folder}: holds {len(loose)} images that lie in no class folder, such as {loose[0].name}. "
            "Move each image into a folder that is named after its class."
        )
    if len(classes) < 2:
        raise LayerwiseError(f"{folder}: {len(classes)} class folder(s) found; classification needs two or more.")
    return classes


def list_images(folder: Path, roots: Sequence[Path] = ()) -> tuple[Files, Tensor, LeftOut]:
    """Returns the image files of all classes, sorted by class and path, their labels int64 [N], and what is left out.

    Args:
        roots: class folders, these and others, to which links are not followed; of two that are one the first counts.

    Raises:
        LayerwiseError: as `classes_of`, or a class folder without images.
    """
    folders = [folder / name for name in classes_of(folder)]
    walk, files, labels = Walk([*roots, *folders]), list[bytes](), list[int]()
    for label, class_folder in enumerate(folders):
        if not (found := walk.images_below(class_folder)):
            left_out = walk.left_out.in_words()
            raise LayerwiseError(
                f"{class_folder} holds no images ({', '.join(EXTENSIONS)})"
                + (f"; {left_out}." if left_out else ".")
                + f" Each folder in {folder} is taken for a class: move it elsewhere. Runs are written to output_dir."
            )
        files += found
        labels += [label] * len(found)
    walk.left_out.loose = len(loose_images(folder))
    return np.array(files), torch.tensor(labels), walk.left_out
