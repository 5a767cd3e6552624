"""Encoded images (JPEG, PNG, …) of a split, wherever their bytes lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerwise.data.images.decoding import read_file

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
