"""ImageNet (ILSVRC2012) and its ten-class subset Imagenette, read from their files or records in each epoch.

Training images are random resized crops. Of held-out images the short side is resized to size·8/7
(256 for 224, as in the paper's code) and the centre is cut out.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torchvision import datasets

from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DatasetSpec
from layerwise.data.images.encoded import Cut, EncodedImages
from layerwise.data.images.folders import TRAIN, VAL, ClassFolders, ImageSource, classes_of, is_source
from layerwise.data.images.listing import loose_images
from layerwise.data.images.records import Records, is_records
from layerwise.data.images.resized_crop import ResizedCrop
from layerwise.data.reader import Reader

IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def evaluation_cut(size: int) -> Cut:
    """How held-out images become squares of a resolution in pixels."""
    return Cut(size, evaluation_short_side(size))


def evaluation_short_side(size: int) -> int:
    """What the short side of held-out images is resized to, in pixels."""
    return size * 8 // 7


@dataclass(frozen=True)
class ImageNet(Reader):
    """`dataset=imagenet`.

    Args:
        root: the folder with train/ and val/ or with records, or where that folder lies.
        size: resolution in pixels.
        exif: turns images as their EXIF orientations say.
        workers: processes that decode; None for one per usable core.
        skip_unreadable: decodes all images when they are read and leaves those out that cannot be.

    Attributes:
        name: of the data set.
        subfolders: usual names of the folder with train/.
        official: numbers of training and held-out images.

    Raises:
        LayerwiseError: the folder is absent, lacks val/, classes or images, or holds others; or records are damaged, or
            were made too small.
    """

    root: Path
    size: int
    exif: bool = False
    workers: int | None = 0
    skip_unreadable: bool = False

    name: ClassVar[str] = "imagenet"
    subfolders: ClassVar[tuple[str, ...]] = ("imagenet",)
    official: ClassVar[tuple[int, int]] = (1_281_167, 50_000)

    def words(self) -> Mapping[str, str]:
        """The WordNet numbers, which name the class folders, in the order of the labels; and in words.

        They are timm's; empty where timm is not installed.
        """
        try:
            from timm.data.imagenet_info import ImageNetInfo  # slow to import, and needed here only
        except ImportError:
            return {}
        words = ImageNetInfo().label_descriptions(as_dict=True)
        assert isinstance(words, dict)
        return words

    def classes(self, wnids: Sequence[str]) -> Sequence[str]:
        """The names of the classes of some WordNet numbers; of a thousand the numbers themselves."""
        return wnids

    def absent(self) -> Path:
        """Gets what `find` does not find, or refuses."""
        root = self.root
        for folder in (root, root / "imagenet"):
            if archives := sorted(path.name for path in folder.glob("ILSVRC2012_img_*.tar")):
                raise LayerwiseError(
                    f"dataset=imagenet: {folder} holds {' and '.join(archives)}, but not unpacked. "
                    + self.how_to_unpack(folder)
                )
        raise LayerwiseError(
            f"dataset=imagenet: there is neither {root / TRAIN} nor {root / 'imagenet' / TRAIN}. ImageNet cannot be "
            "downloaded without an account at image-net.org; say where its train/<class>/… and val/<class>/…, or "
            "records of them, are: dataset.root=FOLDER (or LAYERWISE_DATA=FOLDER in the environment)."
        )

    def how_to_unpack(self, folder: Path) -> str:
        """Says how the archives become the class folders."""
        calls = "; ".join(f"ImageNet({str(folder)!r}, split={split!r})" for split in (TRAIN, VAL))
        return (
            "torchvision unpacks ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into class folders, with "
            f'ILSVRC2012_devkit_t12.tar.gz beside them: python -c "from torchvision.datasets import ImageNet; {calls}"'
        )

    def find(self) -> Path | None:
        """The folder with train/ or records: the root itself or one of the usual names in it; None if there is none.

        Of several the first; records come last, as those of a smaller size are not quite the same data.
        """
        root, names = self.root, (*self.subfolders, f"{self.name}-records")
        return next((folder for folder in (root, *(root / name for name in names)) if is_source(folder)), None)

    def source(self) -> ImageSource:
        """The images as they are stored; they are downloaded if they are absent and can be."""
        return self._opened(self.find() or self.absent())

    def spec(self) -> DatasetSpec:
        """What the folder says, or the official numbers where it is not there (yet)."""
        folder = self.find()
        preparation = digest = ""
        if folder is None:
            wnids: Sequence[str] = list(self.words()) or [str(c) for c in range(1000)]
            counts = self.official
        else:
            source = self._opened(folder)
            source.check_size(self.size, evaluation_short_side)
            source.check_exif(self.exif)
            wnids, preparation, digest = source.classes, source.preparation, source.digest()
            counts = source.count(TRAIN), source.count(VAL)
        return DatasetSpec(
            name=self.name,
            shape=(3, self.size, self.size),
            classes=tuple(self.classes(wnids)),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            padding=0,
            flip=True,
            train_samples=counts[0],
            test_samples=counts[1],
            resized_crop=True,
            preparation=preparation,
            digest=digest,
            exif=self.exif,
        )

    def read(self, device: torch.device, crop_seed: int | None) -> tuple[EncodedImages, EncodedImages]:
        source = self.source()
        centre = replace(evaluation_cut(self.size), exif=self.exif)
        crop = replace(centre, resized_crop=None if crop_seed is None else ResizedCrop(self.size, crop_seed))
        train, val = (
            EncodedImages.of(source.images(split), cut, device, self.workers)
            for split, cut in ((TRAIN, crop), (VAL, centre))
        )
        return (train.readable(source.classes), val.readable(source.classes)) if self.skip_unreadable else (train, val)

    def listing(self) -> str:
        folder = self.find()
        return "" if folder is None or is_records(folder) else ClassFolders(folder).listing()

    def _opened(self, folder: Path) -> ImageSource:
        """The images of a folder that `find` has found."""
        if is_records(folder):
            records = Records(folder)
            self._check_classes(folder, records.classes)
            return records
        found = classes_of(folder / TRAIN)
        self._check_classes(folder, found)
        unpack = self.how_to_unpack(folder)
        val = folder / VAL
        if not val.is_dir() and unpack:
            raise LayerwiseError(f"dataset.root: there is no folder {val}. {unpack}")
        if val.is_dir() and loose_images(val):
            raise LayerwiseError(
                f"{val} holds images that lie in no class folder; they belong into {val / found[0]} and so on. {unpack}"
            )
        return ClassFolders(folder)

    def _check_classes(self, folder: Path, found: Sequence[str]) -> None:
        """Refuses classes that are not the data set's."""
        words, where = self.words(), folder if is_records(folder) else folder / TRAIN
        remedy = f"Restore them, or train on other classes with dataset=imagefolder dataset.root={folder}."
        if missing := [f"{wnid} ({words[wnid]})" for wnid in words if wnid not in found]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise LayerwiseError(f"{where}: class folders are missing: {', '.join(missing[:3])}{more}. {remedy}")
        if len(found) != (expected := len(words) or 1000):
            unknown = f" (unknown: {', '.join([wnid for wnid in found if wnid not in words][:3])}, …)" if words else ""
            raise LayerwiseError(
                f"{where} holds {len(found)} class folders, {self.name} has {expected}{unknown}. {remedy}"
            )


@dataclass(frozen=True)
class Imagenette(ImageNet):
    """`dataset=imagenette`, which is downloaded if it is absent."""

    name: ClassVar[str] = "imagenette"
    subfolders: ClassVar[tuple[str, ...]] = (
        *("imagenette2-320", "imagenette2-160", "imagenette2", "imagenette2-160-subset"),
    )
    official: ClassVar[tuple[int, int]] = (9_469, 3_925)

    def words(self) -> Mapping[str, str]:
        return IMAGENETTE

    def classes(self, wnids: Sequence[str]) -> Sequence[str]:
        return [IMAGENETTE[wnid] for wnid in wnids]

    def how_to_unpack(self, folder: Path) -> str:
        return ""

    def absent(self) -> Path:
        """Downloads the smallest version whose short side is not below `size`, but for 160 and 320 pixels only."""
        root, pixels = self.root, 160 if self.size <= 160 else 320
        folder, unfinished = root / f"imagenette2-{pixels}", root / "imagenette.download"
        try:
            shutil.rmtree(unfinished / folder.name, ignore_errors=True)  # what an interrupted unpacking has left
            unfinished.mkdir(parents=True, exist_ok=True)
            datasets.Imagenette(str(unfinished), split=TRAIN, size=f"{pixels}px", download=True)  # and val with it
            (unfinished / folder.name).rename(folder)
            shutil.rmtree(unfinished)
        except Exception as error:  # torchvision passes on urllib's, tarfile's, zlib's … errors
            raise LayerwiseError(
                f"dataset=imagenette: not found under {root.resolve()}, and could not be downloaded there ({error}). "
                f"Put {folder.name}/train and {folder.name}/val there, or say where they are: dataset.root=FOLDER "
                "(or LAYERWISE_DATA=FOLDER in the environment). dataset=digits needs no files."
            ) from error
        return folder


SETS: dict[str, type[ImageNet]] = {"imagenet": ImageNet, "imagenette": Imagenette}
"""By the values of `dataset`."""
