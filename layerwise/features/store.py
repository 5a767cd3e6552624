"""Stores of the features x_j of all samples and views of a data set: on the device, in host memory or on the disk.

On the disk a store is a folder `x<j>` of flat binary files, which are mapped into memory for reading, and a manifest
with their checksums and the fingerprint of the blocks that computed the features. It is written as `x<j>.partial` and
renamed at the end, so a folder named `x<j>` is always complete.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import prod
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from layerwise.core.errors import writing
from layerwise.core.files import fingerprint, write_atomically
from layerwise.core.machine import HOST
from layerwise.data.read_ahead import announced, gather, read_ahead, to_device
from layerwise.features.codec import FeatureCodec

MANIFEST = "manifest.json"
KEPT = "Finished blocks and checkpoints are intact."


class RowWriter(Protocol):
    """Appends rows to one array."""

    def append(self, rows: Tensor) -> None: ...

    def finish(self) -> Tensor:
        """Returns the whole array [n, …]."""


class FeatureWriter:
    """Encodes the features of one split and view, batch by batch."""

    def __init__(self, codec: FeatureCodec, open_array: Callable[[str], RowWriter]) -> None:
        self.codec, self.open_array = codec, open_array
        self.arrays: dict[str, RowWriter] = {}

    def append(self, features: Tensor) -> None:
        """Appends a batch [B, …]."""
        for name, rows in self.codec.encode(features).items():
            if name not in self.arrays:
                self.arrays[name] = self.open_array(name)
            self.arrays[name].append(rows)


class FeatureStore:
    """Features x_depth of every split and view, in memory."""

    def __init__(self, depth: int, codec: FeatureCodec, device: torch.device = HOST) -> None:
        self.depth, self.codec, self.device = depth, codec, device
        self.arrays: dict[tuple[str, int], dict[str, Tensor]] = {}

    @contextmanager
    def writer(self, split: str, view: int, n: int) -> Iterator[FeatureWriter]:
        """Context in which the n samples of a split and view are appended, in order."""
        writer = FeatureWriter(self.codec, lambda name: self._open(split, view, name, n))
        yield writer
        self.arrays[split, view] = {name: array.finish() for name, array in writer.arrays.items()}

    def read(self, split: str, view: int, order: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yields the features of the samples at some positions, in channels_last if [B, C, H, W].

        Args:
            order: positions int64 [n].
            batch_size: B, samples per batch; the last batch may be smaller.
        """
        order = order.to(self.device)  # once: a step must not wait for a GPU
        arrays, rows = self.arrays[split, view], self._coming(split, view, order.split(batch_size))
        if self.device == device:
            return map(self.codec.decode, map(partial(gather, arrays), rows))
        encoded = read_ahead(partial(gather, arrays, page_locked=True), rows, torch.get_num_threads())
        return map(self.codec.decode, to_device(encoded, device))

    def commit(self) -> None:
        """Completes the store, after all splits and views are written."""

    def discard(self) -> None:
        """Frees an incomplete store."""
        self.arrays.clear()

    def delete(self) -> None:
        """Frees the store."""
        self.arrays.clear()

    def _coming(self, split: str, view: int, rows: Sequence[Tensor]) -> Iterable[Tensor]:
        """Returns the batches of row numbers, after it has announced their reads where that helps."""
        return rows

    def _open(self, split: str, view: int, name: str, n: int) -> RowWriter:
        return _MemoryRows(n, self.device)


class _MemoryRows:
    def __init__(self, n: int, device: torch.device) -> None:
        self.n, self.device, self.written = n, device, 0
        self.array: Tensor | None = None

    def append(self, rows: Tensor) -> None:
        if self.array is None:
            self.array = torch.empty(self.n, *rows.shape[1:], dtype=rows.dtype, device=self.device)
        self.array[self.written : self.written + len(rows)] = rows
        self.written += len(rows)

    def finish(self) -> Tensor:
        assert self.array is not None
        return self.array


class DiskFeatureStore(FeatureStore):
    """A store in a folder."""

    def __init__(self, depth: int, codec: FeatureCodec, folder: Path, blocks: str) -> None:
        super().__init__(depth, codec)
        self.folder = folder
        self.partial = folder.with_name(folder.name + ".partial")
        self.identity = {"depth": depth, "dtype": codec.dtype.value, "blocks": blocks}
        self.files: list[_DiskRows] = []

    def commit(self) -> None:
        entries = [file.entry() for file in self.files]
        manifest = json.dumps({**self.identity, "files": entries}, indent=1)
        write_atomically(self.partial / MANIFEST, manifest, KEPT, makes_folder=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        with writing(self.folder, KEPT):
            self.partial.rename(self.folder)

    def open(self) -> bool:
        """Maps the files of a complete store; returns False if it is absent, damaged, or belongs to other weights."""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text())
        except (OSError, ValueError):
            return False
        try:
            entries = manifest.pop("files", [])
            if manifest != self.identity:
                return False
            for entry in entries:
                path = self.folder / entry["file"]
                if not path.exists() or _checksum(path) != entry["crc32"]:
                    return False
                array = _map(path, entry["shape"], getattr(torch, entry["dtype"]))
                self.arrays.setdefault((entry["split"], entry["view"]), {})[entry["array"]] = array
        except (AttributeError, KeyError, TypeError):  # JSON, but no manifest
            self.arrays.clear()
            return False
        return True

    def discard(self) -> None:
        super().discard()
        shutil.rmtree(self.partial, ignore_errors=True)

    def delete(self) -> None:
        super().delete()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _coming(self, split: str, view: int, rows: Sequence[Tensor]) -> Iterable[Tensor]:
        values = self.arrays[split, view]["values"]
        return announced(rows, self.folder / _file_name(split, view, "values"), values[:1].nbytes)

    def _open(self, split: str, view: int, name: str, n: int) -> RowWriter:
        with writing(self.partial, KEPT):
            for folder in (self.folder.parent.parent, self.folder.parent, self.partial):  # not the run's, if it is gone
                folder.mkdir(exist_ok=True)
        self.files.append(_DiskRows(self.partial, split, view, name))
        return self.files[-1]


class _DiskRows:
    """Appends rows to a file by plain writes, which raise on a full disk; a mapped file would kill the process."""

    def __init__(self, folder: Path, split: str, view: int, name: str) -> None:
        self.labels = {"split": split, "view": view, "array": name}
        self.path = folder / _file_name(split, view, name)
        with writing(self.path, KEPT):
            self.file = open(self.path, "wb")  # noqa: SIM115 (closed by finish)
        self.n, self.crc32 = 0, 0
        self.row_shape: tuple[int, ...] = ()
        self.dtype = torch.uint8

    def append(self, rows: Tensor) -> None:
        content = rows.cpu().contiguous().view(torch.uint8).numpy().data
        with writing(self.path, KEPT):
            self.file.write(content)
        self.crc32 = zlib.crc32(content, self.crc32)
        self.n += len(rows)
        self.row_shape, self.dtype = tuple(rows.shape[1:]), rows.dtype

    def finish(self) -> Tensor:
        with writing(self.path, KEPT):
            self.file.close()
        return _map(self.path, (self.n, *self.row_shape), self.dtype)

    def entry(self) -> dict[str, object]:
        dtype = str(self.dtype).removeprefix("torch.")
        shape = [self.n, *self.row_shape]
        return {**self.labels, "file": self.path.name, "shape": shape, "dtype": dtype, "crc32": self.crc32}


class FeatureStores:
    """Makes the stores of a run.

    Args:
        folder: folder of the stores on the disk; None keeps them in memory.
        keep: whether the last store stays on the disk when the run ends.
    """

    def __init__(
        self, codec: FeatureCodec, folder: Path | None, keep: bool = False, device: torch.device = HOST
    ) -> None:
        self.codec, self.folder, self.keep, self.device = codec, folder, keep, device

    def create(self, prefix: Sequence[nn.Module]) -> FeatureStore:
        """Returns an empty store for the outputs of the frozen blocks."""
        if self.folder is None:
            return FeatureStore(len(prefix), self.codec, self.device)
        store = self._on_disk(prefix)
        shutil.rmtree(store.partial, ignore_errors=True)
        return store

    def newest(self, prefix: Sequence[nn.Module]) -> FeatureStore | None:
        """Returns the deepest complete store of these blocks that an earlier process left, and removes all others."""
        if self.folder is None or not self.folder.exists():
            return None
        found = None
        for depth in range(len(prefix), 0, -1):
            store = self._on_disk(prefix[:depth])
            if found is None and store.open():
                found = store
        for entry in self.folder.glob("x*"):
            if found is None or entry != found.folder:
                shutil.rmtree(entry, ignore_errors=True)
        return found

    def close(self) -> None:
        """Removes the stores on the disk, unless they are to be kept."""
        if self.folder is not None and not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # not empty: other processes have their stores there
                self.folder.parent.rmdir()

    def _on_disk(self, prefix: Sequence[nn.Module]) -> DiskFeatureStore:
        assert self.folder is not None
        blocks = fingerprint(nn.ModuleList(prefix).state_dict())
        return DiskFeatureStore(len(prefix), self.codec, self.folder / f"x{len(prefix)}", blocks)


def _file_name(split: str, view: int, array: str) -> str:
    return f"{split}_{view}_{array}.bin"


def _map(path: Path, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.from_file(str(path), shared=False, size=prod(shape), dtype=dtype).view(tuple(shape))


def _checksum(path: Path) -> int:
    crc32 = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 24):
            crc32 = zlib.crc32(chunk, crc32)
    return crc32
