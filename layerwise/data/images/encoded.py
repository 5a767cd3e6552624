"""Images that stay encoded (JPEG, PNG, …) where they lie and are decoded, cut and augmented batch by batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from layerwise.core import distributed
from layerwise.core.errors import LayerwiseError
from layerwise.core.machine import decoding_workers
from layerwise.data.dataset import Resident
from layerwise.data.images.decoding import UnreadableImage, decode, read_file
from layerwise.data.images.resized_crop import ResizedCrop
from layerwise.data.images.worker_map import WorkerMap
from layerwise.data.read_ahead import Arrays, to_device

NAMED = 10
"""Unreadable images that are named; the others are counted."""

Files = NDArray[np.bytes_]
"""Paths [N]. An array, because a list of a million strings is copied into each worker as it is touched."""


class Encoded(Protocol):
    """The bytes of N encoded images."""

    @property
    def place(self) -> str:
        """Where they lie."""

    @property
    def remedy(self) -> str:
        """What to do about one that cannot be decoded; a sentence without its end."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Tensor:
        """One image as uint8 [bytes], only to be read.

        Raises:
            UnreadableImage: its bytes are absent or damaged.
        """

    def name(self, position: int) -> str:
        """What a message calls an image."""

    def take(self, positions: Tensor) -> Encoded:
        """The images at some positions, in that order."""


class StoredSplit(NamedTuple):
    """What a folder or records hold of a split.

    Attributes:
        encoded: the images [N].
        labels: int64 [N].
        samples: int64 [N], numbers of the images among the files that there were once; None: 0 … N−1.
    """

    encoded: Encoded
    labels: Tensor
    samples: Tensor | None = None


@dataclass(frozen=True)
class FileBytes:
    """Each image in a file of its own."""

    files: Files
    remedy: str = "Repair or remove it"

    @property
    def place(self) -> str:
        return str(Path(self.name(0)).parents[1])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Tensor:
        return read_file(self.name(position))

    def name(self, position: int) -> str:
        return os.fsdecode(self.files[position])

    def take(self, positions: Tensor) -> FileBytes:
        return FileBytes(self.files[positions.cpu().numpy()], self.remedy)


@dataclass(frozen=True)
class Cut:
    """How a decoded image becomes a square.

    Attributes:
        size: side of the square in pixels.
        short_side: what the image's short side is resized to before the centre is cut out.
        resized_crop: augments the images of a view, instead; None: views are cut like the rest.
        exif: whether images are turned as their EXIF orientations say.
    """

    size: int
    short_side: int
    resized_crop: ResizedCrop | None = None
    exif: bool = False

    def centre(self, image: Tensor) -> Tensor:
        """Args: image: uint8 [3, H, W]. Returns: uint8 [3, size, size]."""
        image = transforms.resize(image, [self.short_side], antialias=True)
        square: Tensor = transforms.center_crop(image, [self.size, self.size])
        return square


class EncodedImages:
    """A split whose images are read from the disk and decoded each time.

    Args:
        encoded: the images [N].
        labels: int64 [N].
        workers: processes that decode; 0 decodes in this one.
        samples: numbers of the images in the full data set; 0 … N−1 by default.
    """

    def __init__(
        self,
        encoded: Encoded,
        labels: Tensor,
        *,
        cut: Cut,
        device: torch.device,
        workers: int,
        samples: Tensor | None = None,
    ) -> None:
        self.encoded = encoded
        self.labels = labels.to(device)
        self.samples = torch.arange(len(encoded), device=device) if samples is None else samples.to(device)
        self.cut, self.device, self.workers = cut, device, workers
        self._decoders: WorkerMap[_Work, Tensor | str] | None = None

    @classmethod
    def of(cls, stored: StoredSplit, cut: Cut, device: torch.device, workers: int | None) -> EncodedImages:
        """A split as a folder or records hold it; `workers` None is one per usable core."""
        encoded, labels, samples = stored
        if workers is None:
            workers = decoding_workers(device, distributed.place().local_ranks)
        return cls(encoded, labels, cut=cut, device=device, workers=workers, samples=samples)

    def __len__(self) -> int:
        return len(self.encoded)

    def take(self, positions: Tensor) -> EncodedImages:
        on_device = positions.to(self.device)
        return EncodedImages(
            self.encoded.take(positions),
            self.labels[on_device],
            cut=self.cut,
            device=self.device,
            workers=self.workers,
            samples=self.samples[on_device],
        )

    def read(self, batches: Sequence[Tensor], view: int | None = None) -> Iterator[Tensor]:
        if self._decoders is None:  # here and not before: most splits are only taken from
            decode_batch = _Decode(self.encoded, self.samples.cpu(), self.cut)
            self._decoders = WorkerMap(decode_batch, self.workers, pin_memory=self.device.type == "cuda")
        positions = torch.cat(list(batches)).cpu()  # once, so that no step waits for the device
        parts = positions.split([len(batch) for batch in batches])
        decoded = map(_checked, self._decoders((part.tolist(), view) for part in parts))
        for batch in to_device(decoded, self.device):
            yield batch["images"]

    def readable(self, classes: Sequence[str]) -> EncodedImages:
        """Returns the split without the images that cannot be decoded, which are named on stderr. Reads every image.

        Raises:
            LayerwiseError: no image of some class is left.
        """
        chunks = [chunk.tolist() for chunk in torch.arange(len(self)).split(64)]
        found = WorkerMap(_Check(self.encoded, self.cut.exif), self.workers)(chunks)
        console = Console(stderr=True)
        bar = track(
            found, f"checking {self.encoded.place}", len(chunks), console=console, disable=not console.is_terminal
        )
        unreadable = {position: message for chunk in bar for position, message in chunk}
        if not unreadable:
            return self
        name_left_out(list(unreadable.values()))
        kept = torch.tensor([i for i in range(len(self)) if i not in unreadable], dtype=torch.int64)
        check_classes_left(self.labels.cpu(), kept, classes, self.encoded.place)
        return self.take(kept)

    def decoded(self) -> Resident:
        """All images, on the device."""
        batches = torch.arange(len(self)).split(256)
        return Resident(torch.cat(list(self.read(batches))), self.labels, self.device, self.samples)


def check_classes_left(labels: Tensor, kept: Tensor, classes: Sequence[str], place: str) -> None:
    """Refuses unreadable images that were all of a class.

    Args:
        labels: int64 [N], of all images.

    Raises:
        LayerwiseError: names the first such class.
    """
    before, after = (torch.bincount(part, minlength=len(classes)) for part in (labels, labels[kept]))
    for name, n, left in zip(classes, before.tolist(), after.tolist(), strict=True):
        if n and not left:
            raise LayerwiseError(
                f"{place}: none of the {n} images of class '{name}' can be decoded. Repair them, or remove the class "
                "everywhere."
            )


def name_left_out(messages: Sequence[str]) -> None:
    """Says in the main process which images cannot be decoded, or of the most how many."""
    if not distributed.is_main():
        return
    for message in messages[:NAMED]:
        print(f"warning: left out: {message}", file=sys.stderr)
    if len(messages) > NAMED:
        print(f"warning: and {len(messages) - NAMED} more unreadable images are left out", file=sys.stderr)


_Work = tuple[list[int], int | None]
"""Positions of a batch, and its view."""


@dataclass(frozen=True)
class _Decode:
    """Decodes batches. An unreadable image gives a message: a worker's exception would arrive as a traceback."""

    encoded: Encoded
    samples: Tensor  # on the CPU
    cut: Cut

    def __call__(self, work: _Work) -> Tensor | str:
        positions, view = work
        batch = torch.empty(len(positions), self.cut.size, self.cut.size, 3, dtype=torch.uint8)
        crop = self.cut.resized_crop if view is not None else None
        draws = crop.draw(view, self.samples[positions]) if crop is not None and view is not None else []
        for i, position in enumerate(positions):
            try:
                image = decode(self.encoded[position], self.cut.exif)
            except UnreadableImage as error:
                remedy = f"{self.encoded.remedy}, or leave such images out: dataset.unreadable=skip."
                return f"{problem(self.encoded, position, error)} {remedy}"
            square = self.cut.centre(image) if crop is None else crop(image, draws[i])
            batch[i] = square.permute(1, 2, 0)
        return batch


@dataclass(frozen=True)
class _Check:
    """For some positions, the unreadable ones with a message."""

    encoded: Encoded
    exif: bool

    def __call__(self, positions: list[int]) -> list[tuple[int, str]]:
        unreadable = []
        for position in positions:
            try:
                decode(self.encoded[position], self.exif)
            except UnreadableImage as error:
                unreadable.append((position, problem(self.encoded, position, error)))
        return unreadable


def _checked(decoded: Tensor | str) -> Arrays:
    if isinstance(decoded, str):
        raise LayerwiseError(decoded)
    return {"images": decoded}


def problem(encoded: Encoded, position: int, error: UnreadableImage) -> str:
    """A sentence about an image that cannot be decoded."""
    return f"{encoded.name(position)} cannot be decoded ({error})."
