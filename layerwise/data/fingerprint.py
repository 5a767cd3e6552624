"""What tells data of one name apart: a line for each image file or sample, its name, a tab, what changes with it."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from torch import Tensor

GONE = "missing"


def of_files(root: Path, paths: Iterable[bytes]) -> Iterator[str]:
    """Yields the lines of files: path below `root`, size and time of modification."""
    for path in paths:
        status = Path(os.fsdecode(path)).stat()
        changed = datetime.fromtimestamp(int(status.st_mtime), timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        name = os.path.relpath(path, os.fsencode(root)).decode(errors="backslashreplace").replace("\n", "\\n")
        yield f"{name}\t{status.st_size} bytes of {changed}"


def of_samples(splits: Mapping[str, tuple[Tensor, Tensor]]) -> Iterator[str]:
    """Yields the lines of samples in memory: a checksum of each one's values and label.

    Args:
        splits: by name, values [N, …] and labels [N], on the CPU.
    """
    for name, (values, labels) in splits.items():
        rows, of_rows = values.contiguous().numpy(), labels.contiguous().numpy()
        for number, (row, label) in enumerate(zip(rows, of_rows, strict=True), 1):
            yield f"{name} sample {number}\tchecksum {zlib.crc32(label.tobytes(), zlib.crc32(row.tobytes())):08x}"


def digest(listing: str) -> str:
    """Returns 8 hexadecimal digits."""
    return hashlib.sha256(listing.encode()).hexdigest()[:8]


def may_agree(one: str, other: str) -> bool:
    """Whether two digests may be of the same data; earlier versions knew none, or fewer digits of a table's."""
    return one.startswith(other) or other.startswith(one)


def first_difference(there: str, here: str) -> str | None:
    """Says in which file or sample two listings differ first, and how; None if they do not.

    Args:
        there: the older one.
    """
    before, now = (dict(line.split("\t", 1) for line in listing.splitlines()) for listing in (there, here))
    for name in dict.fromkeys([*now, *before]):
        old, new = before.get(name, GONE), now.get(name, GONE)
        if old != new:
            return f"{name}: {old} there, {new} now"
    return None
