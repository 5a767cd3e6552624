"""Records: the encoded images of a data set in a few large files, which are mapped into memory.

A folder of records holds

    index.safetensors               of both splits: labels, lengths, checksums; class names; how images were prepared
    train-00000.bin, …              shards: the encoded images of train, one after another
    val-00000.bin, …                and of val

Images keep the order of the class folders that they were made from. Where each lies follows from the lengths.
`record_writer` makes such folders.
"""

from __future__ import annotations

import mmap
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import LayerwiseError
from layerwise.core.files import DamagedFile, load_tree
from layerwise.data.images.decoding import UnreadableImage
from layerwise.data.images.encoded import StoredSplit

INDEX = "index.safetensors"
FORMAT, VERSION = "layerwise records", 1
AGAIN = "Copy these records anew, or prepare them anew (layerwise prepare_data)"

Integers = NDArray[np.int64]


def is_records(folder: Path) -> bool:
    """Whether a folder holds records, perhaps damaged ones."""
    return (folder / INDEX).is_file()


def shard_path(folder: Path, split: str, number: int) -> Path:
    """The file of a shard, counted from 0."""
    return folder / f"{split}-{number:05d}.bin"


class Records:
    """A folder of records, as `folders.ImageSource` asks for it. Reads the index and no image.

    Attributes:
        classes: names of the classes, in the order of the labels.
        preparation: how images were changed, in words; empty if none was.
        exif: whether images that were resized were turned as their EXIF orientations say; None if none was resized.
        identity: tells what the records were made from, and how.

    Raises:
        LayerwiseError: the index is damaged or of another version, or a shard is missing or has another size.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _read_index(folder)
        self.classes: list[str] = index["classes"]
        self.short_side: int = index["short_side"]
        self.identity: Mapping[str, Any] = index["identity"]
        self.splits: dict[str, Any] = index["splits"]
        self._digest: str = index.get("digest", "")
        changed = any(split["resized"] for split in self.splits.values())
        self.exif = bool(index.get("exif", False)) if changed else None
        self.preparation = f"short side {self.short_side}, JPEG quality {index['quality']}" if changed else ""
        for split in self.splits:
            self._check_shards(split)

    def digest(self) -> str:
        """That of the files that the records were made of; empty for records of older versions."""
        return self._digest

    def count(self, split: str) -> int:
        return len(self.splits[split]["labels"])

    def images(self, split: str) -> StoredSplit:
        held = self.splits[split]
        counts = held["images_per_shard"].numpy()
        lengths: Integers = held["lengths"].numpy()
        ends = np.cumsum(lengths)
        shard_of: Integers = np.repeat(np.arange(len(counts)), counts)
        firsts = (ends - lengths)[np.cumsum(counts) - counts]  # where the shards begin in the bytes of all
        encoded = RecordBytes(
            tuple(Shard(shard_path(self.folder, split, number)) for number in range(len(counts))),
            shard_of,
            starts=ends - lengths - firsts[shard_of],
            lengths=lengths,
            crc32=held["crc32"].numpy(),
        )
        return StoredSplit(encoded, held["labels"], held["samples"])

    def check_size(self, size: int, short_side: Callable[[int], int]) -> None:
        """Refuses a resolution that the images were made too small for.

        Args:
            size: in pixels.
            short_side: the short side that images of a resolution are cut from.

        Raises:
            LayerwiseError: images would be enlarged again.
        """
        if self.preparation and short_side(size) > self.short_side:
            fits = next((s for s in range(size, 0, -1) if short_side(s) <= self.short_side), 1)
            raise LayerwiseError(
                f"dataset.size={size}: is cut from images whose short side has {short_side(size)} pixels, but those of "
                f"{self.folder} were resized to {self.short_side} and would be enlarged again. Use dataset.size={fits} "
                f"or less, or prepare them anew: layerwise prepare_data --short-side {short_side(size)}."
            )

    def check_exif(self, exif: bool) -> None:
        """Refuses to treat orientations otherwise than when images were resized, which removed them.

        Raises:
            LayerwiseError: dataset.exif is not what the images were resized with.
        """
        if self.exif is not None and self.exif is not exif:
            made = "with" if self.exif else "without"
            raise LayerwiseError(
                f"dataset.exif={str(exif).lower()}: the images of {self.folder} were resized {made} their EXIF "
                f"orientations. Use dataset.exif={str(self.exif).lower()}, or prepare them anew "
                f"{'with' if exif else 'without'} --exif (layerwise prepare_data)."
            )

    def _check_shards(self, split: str) -> None:
        """Sizes only: of a file that is cut off, reading what is mapped behind its end would kill the process."""
        sizes = self.splits[split]["lengths"].split(self.splits[split]["images_per_shard"].tolist())
        for number, lengths in enumerate(sizes):
            path, expected = shard_path(self.folder, split, number), int(lengths.sum())
            try:
                size = path.stat().st_size
            except OSError as error:
                raise LayerwiseError(f"{path}: cannot be read: {error.strerror or error}. {AGAIN}.") from error
            if size != expected:
                raise LayerwiseError(f"{path}: has {size:,} bytes, its index says {expected:,}. {AGAIN}.")


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = load_tree(path)
    except DamagedFile as damage:
        raise LayerwiseError(f"{damage}. {AGAIN}.") from damage
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise LayerwiseError(f"{path}: is no index of records. {AGAIN}.")
    if index["version"] != VERSION:
        raise LayerwiseError(
            f"{path}: the records are of version {index['version']}, this program reads version {VERSION}. "
            "Prepare them anew (layerwise prepare_data)."
        )
    try:
        consistent = set(index["splits"]) <= {"train", "val"} and all(
            _is_consistent(split, len(index["classes"])) for split in index["splits"].values()
        )
    except (KeyError, TypeError, AttributeError, RuntimeError):
        consistent = False
    if not consistent:
        raise LayerwiseError(f"{path}: names files or places that records do not have. {AGAIN}.")
    return index


def _is_consistent(split: dict[str, Any], classes: int) -> bool:
    """Whether the numbers of a split's index agree, so that no image lies outside of its shards."""
    labels, lengths, shards = split["labels"], split["lengths"], split["images_per_shard"]
    return (
        len(labels) == len(lengths) == len(split["crc32"]) == len(split["samples"]) == int(shards.sum())
        and bool((shards >= 0).all() and (lengths >= 0).all() and (lengths < 2**40).all())
        and bool((labels >= 0).all() and (labels < classes).all())
    )


class Shard:
    """A file whose bytes each process maps into its memory when it first reads them.

    A process that is forked shares the mapping, and one that is sent this object makes its own: no image is copied.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes: Tensor | None = None

    def __reduce__(self) -> tuple[type[Shard], tuple[Path]]:
        return Shard, (self.path,)

    @property
    def bytes(self) -> Tensor:
        """uint8 [size of the file], only to be read."""
        if self._bytes is None:
            with open(self.path, "rb") as file, warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self._bytes = torch.frombuffer(mapped, dtype=torch.uint8)
        return self._bytes


@dataclass(frozen=True)
class RecordBytes:
    """Images in the shards of a split.

    Attributes:
        shards: of the whole split.
        shard_of: [N] number of the shard that holds an image.
        starts, lengths: [N] the image's place in it, in bytes.
        crc32: [N] checksums.
    """

    shards: tuple[Shard, ...]
    shard_of: Integers
    starts: Integers
    lengths: Integers
    crc32: Integers
    remedy: str = AGAIN

    @property
    def place(self) -> str:
        return str(self.shards[0].path.parent)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int) -> Tensor:
        start = int(self.starts[position])
        try:
            mapped = self.shards[self.shard_of[position]].bytes
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error)) from error
        encoded: Tensor = mapped[start : start + int(self.lengths[position])]
        if zlib.crc32(encoded.numpy().data) != self.crc32[position]:
            raise UnreadableImage("its checksum does not match")
        return encoded

    def name(self, position: int) -> str:
        path, start = self.shards[self.shard_of[position]].path, int(self.starts[position])
        return f"{path}, image at the bytes {start} to {start + int(self.lengths[position])},"

    def take(self, positions: Tensor) -> RecordBytes:
        chosen = positions.cpu().numpy()
        arrays = {name: getattr(self, name)[chosen] for name in ("shard_of", "starts", "lengths", "crc32")}
        return replace(self, **arrays)
