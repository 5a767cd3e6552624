"""Whether the data are still those that a run began with; if not, which file or sample is another."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

from layerwise.core.distributed import say_once
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.data.dataset import DatasetSpec
from layerwise.data.fingerprint import first_difference
from layerwise.runs.run_files import SAMPLES, SPEC, DamagedRunFile, read_spec

Listing = Callable[[], str]
"""Gives the lines of `data.fingerprint`, which takes time."""


def check_data(folder: Path, spec: DatasetSpec, listing: Listing) -> None:
    """Refuses data that are not those that a run began with.

    Raises:
        LayerwiseError: the number of samples, their shape, the classes, or the content differ.
    """
    refuse(changed_data(folder, spec, listing))


def refuse(changed: str | None) -> None:
    """Raises what `changed_data` says, if anything, with the remedy."""
    if changed is not None:
        raise LayerwiseError(f"{changed} Restore them, give this run another name=…, or start over with fresh=true.")


def changed_data(folder: Path, spec: DatasetSpec, listing: Listing) -> str | None:
    """Says what is different about the data; None if nothing is.

    Args:
        folder: of the run; one that has not begun takes all.
        spec: of the data now.
        listing: of the data now.
    """
    try:
        known = read_spec(folder / SPEC)
    except DamagedRunFile as error:
        say_once(f"warning: {error}")  # the checkpoints say, too, on which data they were trained
        return None
    if known is None or known.agrees_with(spec):
        return None
    before = _read_listing(folder)
    first = None if before is None else first_difference(before, listing())
    return (
        f"dataset={spec.name}: the data are not those that {folder} began with "
        f"({known.in_words()} there, {spec.in_words()} now{'' if first is None else f'; first difference: {first}'})."
    )


def is_described(folder: Path) -> bool:
    """Whether a run folder says on which data the run was trained."""
    try:
        return read_spec(folder / SPEC) is not None
    except LayerwiseError:
        return False


def keep_listing(folder: Path, listing: Listing, kept: str) -> None:
    """Writes the listing into a run folder that has none.

    Args:
        kept: sentence for the error message that says what a failure did not harm.
    """
    path = folder / SAMPLES
    if not path.exists() and (lines := listing()):
        write_atomically(path, gzip.compress(lines.encode(), 6, mtime=0), kept, makes_folder=False)


def _read_listing(folder: Path) -> str | None:
    try:
        return gzip.decompress((folder / SAMPLES).read_bytes()).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):  # of an earlier version, or damaged: the digests decide
        return None
