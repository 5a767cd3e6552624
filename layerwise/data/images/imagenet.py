"""ImageNet (ILSVRC2012) and its ten-class subset Imagenette, read from their files or records in each epoch.

Training images are random resized crops. Of held-out images the short side is resized to size·8/7
(256 for 224, as in the paper's code) and the centre is cut out.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torchvision import datasets

from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DatasetSpec
from layerwise.data.images.encoded import Cut, EncodedImages
from layerwise.data.images.folders import TRAIN, VAL, ClassFolders, ImageSource, classes_of, is_source
from layerwise.data.images.listing import loose_images
from layerwise.data.images.records import Records, is_records
from layerwise.data.images.resized_crop import ResizedCrop

NAMES = ("imagenet", "imagenette")
OFFICIAL_COUNTS = {"imagenet": (1_281_167, 50_000), "imagenette": (9_469, 3_925)}
SUBFOLDERS = {
    "imagenet": ("imagenet",),
    "imagenette": ("imagenette2-320", "imagenette2-160", "imagenette2", "imagenette2-160-subset"),
}
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


def spec(name: str, root: Path, size: int, exif: bool = False) -> DatasetSpec:
    """What the folder says, or the official numbers where it is not there (yet).

    Raises:
        LayerwiseError: a folder that is there lacks val/, classes or images, or holds others; or records are damaged,
            or were made too small.
    """
    folder = find(name, root)
    words = class_words(name)
    preparation = digest = ""
    if folder is None:
        classes, counts = list(words) or [str(c) for c in range(1000)], OFFICIAL_COUNTS[name]
    else:
        source = open_checked(name, folder)
        source.check_size(size, evaluation_short_side)
        source.check_exif(exif)
        classes, preparation, digest = source.classes, source.preparation, source.digest()
        counts = source.count(TRAIN), source.count(VAL)
    return DatasetSpec(
        name=name,
        shape=(3, size, size),
        classes=tuple(words[wnid] for wnid in classes) if name == "imagenette" else tuple(classes),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        padding=0,
        flip=True,
        train_samples=counts[0],
        test_samples=counts[1],
        resized_crop=True,
        preparation=preparation,
        digest=digest,
        exif=exif,
    )


def read(
    name: str,
    root: Path,
    size: int,
    device: torch.device,
    workers: int,
    crop_seed: int | None,
    skip_unreadable: bool = False,
    exif: bool = False,
) -> tuple[EncodedImages, EncodedImages]:
    """Train and val images; Imagenette is downloaded if it is absent.

    Args:
        name: one of `NAMES`.
        root: the folder with train/ and val/ or with records, or where that folder lies.
        size: resolution in pixels.
        crop_seed: of the random resized crops of training views; None for no augmentation.
        skip_unreadable: decodes all images now and leaves those out that cannot be.
        exif: turns images as their EXIF orientations say.

    Raises:
        LayerwiseError: absent, or as `spec`.
    """
    source = open_checked(name, find_or_download(name, root, size))
    centre = replace(evaluation_cut(size), exif=exif)
    crop = replace(centre, resized_crop=None if crop_seed is None else ResizedCrop(size, crop_seed))
    train, val = (
        EncodedImages.of(source.images(split), cut, device, workers) for split, cut in ((TRAIN, crop), (VAL, centre))
    )
    return (train.readable(source.classes), val.readable(source.classes)) if skip_unreadable else (train, val)


def evaluation_cut(size: int) -> Cut:
    """How held-out images become squares of a resolution in pixels."""
    return Cut(size, evaluation_short_side(size))


def evaluation_short_side(size: int) -> int:
    """What the short side of held-out images is resized to, in pixels."""
    return size * 8 // 7


def find(name: str, root: Path) -> Path | None:
    """The folder with train/ or with records: the root itself or one of the usual names in it; None if there is none.

    Of several the first; records come last, as those of a smaller size are not quite the same data.
    """
    candidates = (root, *(root / subfolder for subfolder in (*SUBFOLDERS[name], f"{name}-records")))
    return next((folder for folder in candidates if is_source(folder)), None)


def find_or_download(name: str, root: Path, size: int) -> Path:
    """The folder with train/ or with records; Imagenette is downloaded if it is absent.

    Args:
        name: one of `NAMES`.
        root: the folder itself, or where it lies.
        size: resolution in pixels that a download should have.

    Raises:
        LayerwiseError: absent, and not to be downloaded.
    """
    if (folder := find(name, root)) is not None:
        return folder
    return download_imagenette(root, size) if name == "imagenette" else _refuse_absent_imagenet(root)


def open_checked(name: str, folder: Path) -> ImageSource:
    """The images of a folder that `find` has found.

    Raises:
        LayerwiseError: it has not the classes of the data set, or is not complete.
    """
    if not is_records(folder):
        check_folders(name, folder)
        return ClassFolders(folder)
    records = Records(folder)
    check_classes(name, folder, records.classes)
    return records


def class_words(name: str) -> Mapping[str, str]:
    """The data set's WordNet numbers, which name its class folders, in the order of the labels; and in words.

    Those of ImageNet are timm's; empty where timm is not installed.
    """
    if name == "imagenette":
        return IMAGENETTE
    try:
        from timm.data.imagenet_info import ImageNetInfo  # slow to import, and needed here only
    except ImportError:
        return {}
    words = ImageNetInfo().label_descriptions(as_dict=True)
    assert isinstance(words, dict)
    return words


def check_classes(name: str, folder: Path, found: Sequence[str]) -> None:
    """Refuses classes that are not the data set's.

    Args:
        name: one of `NAMES`.

    Raises:
        LayerwiseError: some are missing or unknown.
    """
    words, where = class_words(name), folder if is_records(folder) else folder / TRAIN
    remedy = f"Restore them, or train on other classes with dataset=imagefolder dataset.root={folder}."
    if missing := [f"{wnid} ({words[wnid]})" for wnid in words if wnid not in found]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise LayerwiseError(f"{where}: class folders are missing: {', '.join(missing[:3])}{more}. {remedy}")
    if len(found) != (expected := len(words) or 1000):
        unknown = f" (unknown: {', '.join([wnid for wnid in found if wnid not in words][:3])}, …)" if words else ""
        raise LayerwiseError(f"{where} holds {len(found)} class folders, {name} has {expected}{unknown}. {remedy}")


def check_folders(name: str, folder: Path) -> None:
    """Refuses class folders that are not the data set's, and held-out images that lie in none.

    Raises:
        LayerwiseError: as `check_classes`; or val/ is missing or was unpacked without class folders.
    """
    found = classes_of(folder / TRAIN)
    check_classes(name, folder, found)
    val = folder / VAL
    if not val.is_dir() and name == "imagenet":
        raise LayerwiseError(f"dataset.root: there is no folder {val}. {_how_to_unpack(folder)}")
    if val.is_dir() and loose_images(val):
        raise LayerwiseError(
            f"{val} holds images that lie in no class folder; they belong into {val / found[0]} and so on. "
            + (_how_to_unpack(folder) if name == "imagenet" else "")
        )


def _refuse_absent_imagenet(root: Path) -> Path:
    for folder in (root, root / "imagenet"):
        if archives := sorted(path.name for path in folder.glob("ILSVRC2012_img_*.tar")):
            raise LayerwiseError(
                f"dataset=imagenet: {folder} holds {' and '.join(archives)}, but not unpacked. "
                + _how_to_unpack(folder)
            )
    raise LayerwiseError(
        f"dataset=imagenet: there is neither {root / TRAIN} nor {root / 'imagenet' / TRAIN}. ImageNet cannot be "
        "downloaded without an account at image-net.org; say where its train/<class>/… and val/<class>/…, or records "
        "of them, are: dataset.root=FOLDER (or LAYERWISE_DATA=FOLDER in the environment)."
    )


def _how_to_unpack(folder: Path) -> str:
    calls = "; ".join(f"ImageNet({str(folder)!r}, split={split!r})" for split in (TRAIN, VAL))
    return (
        "torchvision unpacks ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into class folders, with "
        f'ILSVRC2012_devkit_t12.tar.gz beside them: python -c "from torchvision.datasets import ImageNet; {calls}"'
    )


def download_imagenette(root: Path, size: int) -> Path:
    """Downloads the smallest version whose short side is not below `size`, but for 160 and 320 pixels only.

    Raises:
        LayerwiseError: it did not work.
    """
    pixels = 160 if size <= 160 else 320
    folder, unfinished = root / f"imagenette2-{pixels}", root / "imagenette.download"
    try:
        shutil.rmtree(unfinished / folder.name, ignore_errors=True)  # what an interrupted unpacking has left
        unfinished.mkdir(parents=True, exist_ok=True)
        datasets.Imagenette(str(unfinished), split=TRAIN, size=f"{pixels}px", download=True)  # and val with it
        (unfinished / folder.name).rename(folder)
        shutil.rmtree(unfinished)
    except Exception as error:  # torchvision passes on urllib's, tarfile's, zlib's … errors
        raise LayerwiseError(
            f"dataset=imagenette: not found under {root.resolve()}, and it could not be downloaded there ({error}). "
            f"Put {folder.name}/train and {folder.name}/val there, or say where they are: dataset.root=FOLDER "
            "(or LAYERWISE_DATA=FOLDER in the environment). dataset=digits needs no files."
        ) from error
    return folder
