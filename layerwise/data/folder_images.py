"""Images that stay in their files and are decoded, cut and augmented batch by batch in worker processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from layerwise.data.class_folders import Files
from layerwise.data.dataset import Resident
from layerwise.data.decoding import UnreadableImage, decode
from layerwise.data.resized_crop import ResizedCrop
from layerwise.data.worker_map import WorkerMap
from layerwise.errors import LayerwiseError
from layerwise.read_ahead import Arrays, to_device

NAMED = 10
"""Unreadable files that are named; the others are counted."""


@dataclass(frozen=True)
class Cut:
    """How a decoded image becomes a square.

    Attributes:
        size: side of the square in pixels.
        short_side: what the image's short side is resized to before the centre is cut out.
        resized_crop: augments the images of a view, instead; None: views are cut like the rest.
    """

    size: int
    short_side: int
    resized_crop: ResizedCrop | None = None

    def centre(self, image: Tensor) -> Tensor:
        """Args: image: uint8 [3, H, W]. Returns: uint8 [3, size, size]."""
        image = transforms.resize(image, [self.short_side], antialias=True)
        square: Tensor = transforms.center_crop(image, [self.size, self.size])
        return square


class FolderImages:
    """A split whose images are read from files each time.

    Args:
        files: paths [N].
        labels: int64 [N].
        cut: from decoded images to squares.
        device: where batches go.
        workers: processes that decode; 0 decodes in this one.
        samples: numbers of the images in the full data set; 0 … N−1 by default.
    """

    def __init__(
        self,
        files: Files,
        labels: Tensor,
        *,
        cut: Cut,
        device: torch.device,
        workers: int,
        samples: Tensor | None = None,
    ) -> None:
        self.files = files
        self.labels = labels.to(device)
        self.samples = torch.arange(len(files), device=device) if samples is None else samples
        self.cut, self.device, self.workers = cut, device, workers
        self._decoders: WorkerMap[_Work, Tensor | str] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def take(self, positions: Tensor) -> FolderImages:
        on_device = positions.to(self.device)
        return FolderImages(
            self.files[positions.cpu().numpy()],
            self.labels[on_device],
            cut=self.cut,
            device=self.device,
            workers=self.workers,
            samples=self.samples[on_device],
        )

    def read(self, batches: Sequence[Tensor], view: int | None = None) -> Iterator[Tensor]:
        if self._decoders is None:  # here and not before: most splits are only taken from
            decode_batch = _Decode(self.files, self.samples.cpu(), self.cut)
            self._decoders = WorkerMap(decode_batch, self.workers, pin_memory=self.device.type == "cuda")
        positions = torch.cat(list(batches)).cpu()  # once, so that no step waits for the device
        parts = positions.split([len(batch) for batch in batches])
        decoded = map(_checked, self._decoders((part.tolist(), view) for part in parts))
        for batch in to_device(decoded, self.device):
            yield batch["images"]

    def readable(self) -> FolderImages:
        """The split without the files that cannot be decoded, which are named on stderr. Reads every file.

        Raises:
            LayerwiseError: no image is left.
        """
        chunks = [chunk.tolist() for chunk in torch.arange(len(self)).split(64)]
        found = WorkerMap(_Check(self.files), self.workers)(chunks)
        console = Console(stderr=True)
        folder = Path(os.fsdecode(self.files[0])).parents[1]
        bar = track(found, f"checking {folder}", len(chunks), console=console, disable=not console.is_terminal)
        unreadable = {position: message for chunk in bar for position, message in chunk}
        if not unreadable:
            return self
        for message in list(unreadable.values())[:NAMED]:
            print(f"warning: left out: {message}", file=sys.stderr)
        if len(unreadable) > NAMED:
            print(f"warning: and {len(unreadable) - NAMED} more unreadable images are left out", file=sys.stderr)
        if len(unreadable) == len(self):
            raise LayerwiseError(f"{folder}: none of its {len(self)} images can be decoded.")
        return self.take(torch.tensor([i for i in range(len(self)) if i not in unreadable]))

    def decoded(self) -> Resident:
        """All images, on the device."""
        batches = torch.arange(len(self)).split(256)
        return Resident(torch.cat(list(self.read(batches))), self.labels, self.device, self.samples)


_Work = tuple[list[int], int | None]
"""Positions of a batch, and its view."""


@dataclass(frozen=True)
class _Decode:
    """Decodes batches. An unreadable image gives a message: a worker's exception would arrive as a traceback."""

    files: Files
    samples: Tensor  # on the CPU
    cut: Cut

    def __call__(self, work: _Work) -> Tensor | str:
        positions, view = work
        batch = torch.empty(len(positions), self.cut.size, self.cut.size, 3, dtype=torch.uint8)
        crop = self.cut.resized_crop if view is not None else None
        draws = crop.draw(view, self.samples[positions]) if crop is not None and view is not None else []
        for i, position in enumerate(positions):
            path = os.fsdecode(self.files[position])
            try:
                image = decode(path)
            except UnreadableImage as error:
                return f"{_problem(path, error)} Repair or remove it, or leave such files out: dataset.unreadable=skip."
            square = self.cut.centre(image) if crop is None else crop(image, draws[i])
            batch[i] = square.permute(1, 2, 0)
        return batch


@dataclass(frozen=True)
class _Check:
    """For some positions, the unreadable ones with a message."""

    files: Files

    def __call__(self, positions: list[int]) -> list[tuple[int, str]]:
        unreadable = []
        for position in positions:
            path = os.fsdecode(self.files[position])
            try:
                decode(path)
            except UnreadableImage as error:
                unreadable.append((position, _problem(path, error)))
        return unreadable


def _checked(decoded: Tensor | str) -> Arrays:
    if isinstance(decoded, str):
        raise LayerwiseError(decoded)
    return {"images": decoded}


def _problem(path: str, error: UnreadableImage) -> str:
    return f"{path} cannot be decoded ({error})."
