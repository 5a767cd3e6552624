"""Makes records of class folders: decodes each image, shrinks large ones, and writes them one after another.

The folder is called `<output>.partial` until it is complete. Each finished shard has a note of what it holds, so that
an interrupted command continues at the next shard.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from layerwise.core.errors import LayerwiseError, writing
from layerwise.core.files import DamagedFile, alone, fingerprint, load_tree, save_tree
from layerwise.data.images.decoding import UnreadableImage, decode
from layerwise.data.images.encoded import Encoded, FileBytes, check_classes_left, name_left_out, problem
from layerwise.data.images.folders import TRAIN, VAL, ClassFolders
from layerwise.data.images.records import FORMAT, INDEX, VERSION, Records, is_records, shard_path
from layerwise.data.images.worker_map import WorkerMap

CHUNK = 16
"""Images that a worker process prepares at a time."""

PLAN = "plan.safetensors"
KEPT = "Shards that were finished are intact, and the same command goes on behind them."


@dataclass(frozen=True)
class Preparation:
    """What becomes of an image.

    Attributes:
        short_side: in pixels; images whose short side is longer are resized to it, others stay as they are.
        quality: of the JPEG that a resized image becomes, 1 … 95.
        exif: turns an image that is resized as its EXIF orientation says; others keep their orientations.
    """

    short_side: int
    quality: int
    exif: bool = False

    def __call__(self, encoded: Tensor) -> tuple[Tensor, bool]:
        """Returns the image to store, uint8 [bytes], and whether it was resized; raises UnreadableImage."""
        image = decode(encoded, self.exif)
        if min(image.shape[-2:]) <= self.short_side:
            return encoded, False
        smaller = transforms.resize(image, [self.short_side], antialias=True)
        content = BytesIO()
        transforms.to_pil_image(smaller).save(content, "JPEG", quality=self.quality)
        return torch.frombuffer(content.getbuffer(), dtype=torch.uint8), True


@dataclass
class _Note:
    """What a finished shard holds.

    Attributes:
        samples: numbers of its images among the split's files.
        lengths, crc32: of each.
        seen: files that it took care of, with those that were left out.
        resized: how many of its images were.
        source_bytes: that the files of its images have.
    """

    samples: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    crc32: list[int] = field(default_factory=list)
    seen: int = 0
    resized: int = 0
    source_bytes: int = 0

    def save(self, path: Path) -> None:
        save_tree(path, {k: torch.tensor(v) if isinstance(v, list) else v for k, v in asdict(self).items()}, KEPT)

    @classmethod
    def load(cls, path: Path) -> _Note | None:
        """Returns None where there is none, or a damaged one."""
        with suppress(FileNotFoundError, DamagedFile):
            tree: dict[str, Any] = load_tree(path)
            values: dict[str, Any] = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in tree.items()}
            return cls(**values)
        return None


class RecordWriter:
    """Makes records in a folder, or goes on with what was begun there.

    Args:
        shard_bytes: no shard is larger, but for one that holds a single image.
        workers: processes that decode and encode; 0: this one.
        skip_unreadable: leaves files out that cannot be decoded, with a warning; else the first is an error.

    Raises:
        LayerwiseError: the output or its beginnings hold something else.
    """

    def __init__(
        self,
        source: ClassFolders,
        output: Path,
        preparation: Preparation,
        *,
        shard_bytes: int,
        workers: int,
        skip_unreadable: bool = False,
    ) -> None:
        self.source, self.output, self.preparation = source, output, preparation
        self.shard_bytes, self.workers, self.skip_unreadable = shard_bytes, workers, skip_unreadable
        self.partial = output.with_name(output.name + ".partial")
        self.splits = {split: source.images(split) for split in (TRAIN, VAL)}
        changes = {name: value for name, value in asdict(preparation).items() if value}  # as before there was `exif`
        self.identity = {"images": self._fingerprint(), **changes}
        self.digest = source.digest()
        source.check_output(output)
        self.finished = self._finished()

    def __len__(self) -> int:
        return sum(len(stored.labels) for stored in self.splits.values())

    def write(self, advance: Callable[[int], None]) -> Records:
        """Writes what is not there yet.

        Args:
            advance: told how many more images are done, first of those that an earlier call has done.

        Raises:
            LayerwiseError: the disk is full, or an image cannot be decoded.
        """
        if self.finished is None:
            with alone(self.partial, KEPT):
                if self._finished() is None:  # another command may have finished them meanwhile
                    self._write(advance)
        for left in (self.output / PLAN, *self.output.glob("*.note")):  # not before: a crash would find no beginnings
            left.unlink(missing_ok=True)
        return Records(self.output)

    def _write(self, advance: Callable[[int], None]) -> None:
        self._begin()
        splits = {split: self._write_split(split, advance) for split in self.splits}
        index = {
            "format": FORMAT,
            "version": VERSION,
            "identity": self.identity,
            "classes": self.source.classes,
            "digest": self.digest,
            **asdict(self.preparation),
            "splits": splits,
        }
        save_tree(self.partial / INDEX, index, KEPT)
        with writing(self.output, KEPT):
            self.partial.rename(self.output)

    def _fingerprint(self) -> str:
        """Of the names below the class folders and the labels; contents would have to be read."""
        tensors: dict[str, Tensor] = {}
        prefix = len(os.fsencode(self.source.root / "x")) - 1
        names: list[bytes] = []
        for split, stored in self.splits.items():
            assert isinstance(stored.encoded, FileBytes)
            names += [bytes(path)[prefix:] for path in stored.encoded.files]
            tensors[split] = stored.labels
        return fingerprint(tensors, b"\0".join(names).hex())

    def _finished(self) -> Records | None:
        """The records, if they are there already."""
        if _is_free(self.output):
            return None
        what = "damaged records" if is_records(self.output) else "something else"
        if is_records(self.output):
            with suppress(LayerwiseError):
                records, what = Records(self.output), "records of other images or of another size"
                if records.identity == self.identity:
                    if records.digest() in ("", self.digest):  # earlier versions knew none
                        return records
                    what = "records of these images before some of them changed (in size or time)"
        raise LayerwiseError(f"{self.output}: holds {what}. Remove it, or choose another folder.")

    def _begin(self) -> None:
        """Makes the folder of the beginnings, or checks whose it holds."""
        plan, known, wanted = self.partial / PLAN, None, {**self.identity, "digest": self.digest}
        with suppress(FileNotFoundError, DamagedFile):
            known = load_tree(plan)
        if known is None:
            if not _is_free(self.partial):
                raise LayerwiseError(f"{self.partial}: holds something else than the beginnings of records. Remove it.")
            save_tree(plan, wanted, KEPT)
        elif {"digest": self.digest, **known} != wanted:
            raise LayerwiseError(
                f"{self.partial}: was begun with other images, before some changed, or with other --short-side, "
                "--quality or --exif. Give the same as then, or remove it to start over."
            )

    def _write_split(self, split: str, advance: Callable[[int], None]) -> dict[str, Any]:
        """Writes the shards of a split that are not there yet. Returns what the index says of all of them."""
        stored = self.splits[split]
        notes = self._notes(split)
        done = sum(note.seen for note in notes)
        advance(done)
        left_out: list[str] = []
        shard: _ShardWriter | None = None
        try:
            for sample, prepared in self._prepared(stored.encoded, done):
                if isinstance(prepared, str):
                    if not self.skip_unreadable:
                        raise LayerwiseError(
                            f"{prepared} Repair or remove it, or leave such files out: --unreadable skip. {KEPT}"
                        )
                    left_out.append(prepared)
                elif shard is not None and shard.size and shard.size + len(prepared.content) > self.shard_bytes:
                    notes.append(shard.finish())
                    shard = None
                if shard is None:
                    shard = _ShardWriter(self.partial, split, len(notes))
                shard.add(sample, None if isinstance(prepared, str) else prepared)
                advance(1)
            held = [sample for note in (*notes, *([shard.note] if shard else [])) for sample in note.samples]
            samples = torch.tensor(held, dtype=torch.int64)
            check_classes_left(stored.labels, samples, self.source.classes, stored.encoded.place)
            if shard is not None:
                notes.append(shard.finish())
        except BaseException:
            if shard is not None:
                shard.discard()  # a full disk is not left full
            raise
        name_left_out(left_out)
        return {
            "labels": stored.labels[samples],
            "samples": samples,
            "lengths": torch.tensor([length for note in notes for length in note.lengths]),
            "crc32": torch.tensor([crc32 for note in notes for crc32 in note.crc32]),
            "images_per_shard": torch.tensor([len(note.samples) for note in notes]),
            "resized": sum(note.resized for note in notes),
            "source_bytes": sum(note.source_bytes for note in notes),
        }

    def _notes(self, split: str) -> list[_Note]:
        """Returns those of the shards that an earlier process has finished."""
        notes = list[_Note]()
        while (note := _Note.load(_note_path(self.partial, split, len(notes)))) is not None:
            notes.append(note)
        return notes

    def _prepared(self, encoded: Encoded, first: int) -> Iterator[tuple[int, _Prepared | str]]:
        """Each image from `first` on, with its number; or a message about it."""
        chunks = [chunk.tolist() for chunk in torch.arange(first, len(encoded)).split(CHUNK)]
        workers = WorkerMap(_Prepare(encoded, self.preparation), self.workers)
        try:
            for chunk, (content, facts) in zip(chunks, workers(chunks), strict=True):
                start = 0
                for sample, fact in zip(chunk, facts, strict=True):
                    if isinstance(fact, str):
                        yield sample, fact
                    else:
                        length, resized, source_bytes = fact
                        yield sample, _Prepared(content[start : start + length], resized, source_bytes)
                        start += length
        finally:
            workers.close()


class _Prepared(NamedTuple):
    """An image to store, whether it was resized, and the size of its file in bytes."""

    content: Tensor
    resized: bool
    source_bytes: int


@dataclass(frozen=True)
class _Prepare:
    """For some positions, the images to store. An unreadable one gives a message, as in `encoded`."""

    encoded: Encoded
    preparation: Preparation

    def __call__(self, positions: list[int]) -> tuple[Tensor, list[tuple[int, bool, int] | str]]:
        """Returns their bytes as one tensor, and of each its length and the other fields of `_Prepared`.

        A tensor comes through shared memory: in a pipe that nobody reads any more, because the main process was
        killed, a worker would hang for ever.
        """
        contents, facts = [torch.empty(0, dtype=torch.uint8)], list[tuple[int, bool, int] | str]()
        for position in positions:
            try:
                original = self.encoded[position]
                content, resized = self.preparation(original)
            except UnreadableImage as error:
                facts.append(problem(self.encoded, position, error))
            else:
                contents.append(content)
                facts.append((len(content), resized, len(original)))
        return torch.cat(contents), facts


class _ShardWriter:
    """A shard that is appended to, by plain writes: on a full disk a mapped file would kill the process."""

    def __init__(self, folder: Path, split: str, number: int) -> None:
        self.path, self.note_path = shard_path(folder, split, number), _note_path(folder, split, number)
        self.note, self.size = _Note(), 0
        with writing(self.path, KEPT):
            self.file = open(self.path, "wb")  # noqa: SIM115 (closed by finish or discard)

    def add(self, sample: int, prepared: _Prepared | None) -> None:
        """Appends the image with that number; None: it is left out."""
        self.note.seen += 1
        if prepared is None:
            return
        content = prepared.content.numpy().data
        with writing(self.path, KEPT):
            self.file.write(content)
        self.size += len(content)
        self.note.samples.append(sample)
        self.note.lengths.append(len(content))
        self.note.crc32.append(zlib.crc32(content))
        self.note.resized += prepared.resized
        self.note.source_bytes += prepared.source_bytes

    def finish(self) -> _Note:
        """Says that the shard is whole."""
        with writing(self.path, KEPT):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        self.note.save(self.note_path)
        return self.note

    def discard(self) -> None:
        """Removes the shard."""
        with suppress(OSError):  # it closes even where the rest cannot be written
            self.file.close()
        self.path.unlink(missing_ok=True)


def _note_path(folder: Path, split: str, number: int) -> Path:
    return shard_path(folder, split, number).with_suffix(".note")


def _is_free(folder: Path) -> bool:
    """Whether there is nothing, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
