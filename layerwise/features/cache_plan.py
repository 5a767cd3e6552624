"""Whether a cache of block outputs is exact and fits, decided before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from layerwise.core.errors import LayerwiseError
from layerwise.core.machine import HOST, available_memory
from layerwise.core.types import Shape
from layerwise.features.codec import FeatureCodec

SHARE_OF_FREE = 0.5
"""Without a stated budget a cache may take this share of what is free; of a GPU's memory, in which the data, the
network and its activations still have to fit, never more."""


@dataclass(frozen=True)
class CacheDecision:
    """What a run caches.

    Attributes:
        kind: "none", "memory" or "disk".
        place: "device" (the GPU's memory), "host" or "disk"; None without a cache.
        views: stored augmented versions of each training image.
        codec: number format.
        exact: epoch e sees the very features that recomputing would give.
        bytes: most that each process holds at once: two neighbouring depths while the cache is advanced.
        message: for the user, why it is so; empty if there is nothing to say.
    """

    kind: str
    place: str | None
    views: int
    codec: FeatureCodec
    exact: bool
    bytes: int
    message: str = ""


def store_bytes(shape: Shape, images: int, views: int, held_out: int, codec: FeatureCodec) -> int:
    """Size of x_j for `views` of all training images and one view of the held-out ones."""
    return (images * views + held_out) * codec.bytes_per_sample(shape)


def peak_bytes(shapes: Sequence[Shape], images: int, views: int, held_out: int, codec: FeatureCodec) -> int:
    """Most that is held at once.

    Args:
        shapes: of the depths that are cached, in order; each is written beside the one before.
    """
    sizes = [0, *(store_bytes(shape, images, views, held_out, codec) for shape in shapes)]
    return max(a + b for a, b in zip(sizes, [*sizes[1:], 0], strict=True))


def decide_cache(
    kind: str,
    *,
    shapes: Sequence[Shape],
    images: int,
    held_out: int,
    views: int | None,
    epochs: int,
    augmented: bool,
    codec: FeatureCodec,
    computed: torch.dtype,
    budget_bytes: int | None,
    folder: Path,
    sharing: int = 1,
    device: torch.device = HOST,
) -> CacheDecision:
    """Turns `cache=…` into a decision: in memory it is a GPU's where it fits, else the host's.

    Args:
        kind: "none", "memory", "disk" or "auto".
        shapes: of the depths that stages start from, without the images.
        images, held_out: numbers of training and of validation and test images that a process holds.
        views: V, or None for a view per epoch.
        epochs: of the longest stage that reads a cache.
        augmented: whether training images are augmented; if not, one view is all there is.
        codec: number format.
        computed: format that the blocks compute in.
        budget_bytes: bound that the user gave for each process, or None.
        folder: of a disk cache.
        sharing: processes that share the host's memory or the disk; a GPU is not shared.
        device: that the run computes on.

    Raises:
        LayerwiseError: a memory or disk cache was asked for and does not fit.
    """
    needed = epochs if augmented else 1
    views = min(views or needed, needed)
    exact = views == needed and codec.is_exact_for(computed)
    size = peak_bytes(shapes, images, views, held_out, codec)
    none = CacheDecision("none", None, views=0, codec=codec, exact=True, bytes=0)
    if kind == "none" or not shapes:
        return none
    free = (_free_on_disk(folder) if kind == "disk" else available_memory(HOST)) // sharing
    budget = min(free, budget_bytes if budget_bytes is not None else int(SHARE_OF_FREE * free))
    place, fits = "disk" if kind == "disk" else "host", size <= budget
    if kind != "disk" and device.type == "cuda":
        on_device = int(SHARE_OF_FREE * available_memory(device))
        if size <= min(on_device, on_device if budget_bytes is None else budget_bytes):
            place, fits = "device", True
    cache = f"a cache of {views} view(s) in {codec.dtype.value} takes {in_words(size)}"
    if kind == "auto":
        if exact and fits:
            where = f"the memory of {device}" if place == "device" else "memory"
            return CacheDecision("memory", place, views, codec, exact, size, f"{cache}: it is kept in {where}")
        reason = f"{cache}, the budget is {in_words(budget)}" if exact else f"{cache} and would not be exact"
        return replace(none, message=f"no cache, the prefix is recomputed: {reason}")
    if not fits:
        raise LayerwiseError(
            f"cache={kind}: {cache}, but the budget is {in_words(budget)} and {in_words(free)} are free. "
            "Take fewer views (cache.views), a smaller format (cache.dtype=uint8), a larger cache.budget_gb, "
            "or cache=none."
        )
    approximation = "" if exact else ", an approximation: views or format are fewer than the run computes"
    return CacheDecision(kind, place, views, codec, exact, size, cache + approximation)


def in_words(size: int) -> str:
    """`1.50 GB`, `20 kB`."""
    for unit, divisor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:.3g} {unit}"
    return f"{size} B"


def _free_on_disk(folder: Path) -> int:
    """Free bytes, and those that an earlier process of the same run holds there: they are used again."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    own = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return shutil.disk_usage(existing).free + own
