"""Decides, before anything is trained, whether a cache of block outputs is exact and fits."""

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
"""Share of the free memory or disk that a cache may take without `cache.budget_gb`. It is also the upper bound for a
GPU's memory, where the data, the network and its activations have to fit as well."""


@dataclass(frozen=True)
class CacheDecision:
    """What a run caches.

    Attributes:
        kind: "none", "memory" or "disk".
        place: "device" (the GPU's memory), "host" or "disk"; None without a cache.
        views: number of augmented views that are stored of each training image.
        exact: whether each epoch sees the same features as without a cache.
        bytes: peak size in each process, which holds two neighbouring depths while the cache is advanced.
        message: explanation for the user; empty if there is none.
    """

    kind: str
    place: str | None
    views: int
    codec: FeatureCodec
    exact: bool
    bytes: int
    message: str = ""


def store_bytes(shape: Shape, images: int, views: int, held_out: int, codec: FeatureCodec) -> int:
    """Returns the bytes of x_j for `views` views of all training images and one view of the held-out images."""
    return (images * views + held_out) * codec.bytes_per_sample(shape)


def peak_bytes(shapes: Sequence[Shape], images: int, views: int, held_out: int, codec: FeatureCodec) -> int:
    """Returns the peak size in bytes: each depth is written while the one before is read.

    Args:
        shapes: shape of a sample at each cached depth, in order.
        images, held_out: numbers of training images and of held-out images.
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
    fresh_views: bool,
    codec: FeatureCodec,
    computed: torch.dtype,
    budget_bytes: int | None,
    folder: Path,
    returned: bool = True,
    sharing: int = 1,
    device: torch.device = HOST,
) -> CacheDecision:
    """Turns `cache=…` into a decision. A cache in memory goes to the GPU if it fits there, else to the host.

    Args:
        kind: "none", "memory", "disk" or "auto".
        shapes: shape of a sample at each depth that a stage starts from, without the images.
        images, held_out: numbers of training images, and of validation and test images, in this process.
        views: V, or None for one view per epoch.
        augmented: whether training images are augmented; if not, there is only one view.
        fresh_views: whether each stage augments them anew, so that no cache serves a later stage.
        budget_bytes: the user's upper bound for each process, or None.
        returned: whether blocks are known to return what they compute in that format, and not in float32 (as a sum
            with a parameter is under autocast).
        sharing: number of processes that share the host's memory or the disk (a GPU is not shared).

    Raises:
        LayerwiseError: the memory or disk cache that the user asked for does not fit.
    """
    needed = epochs if augmented else 1
    views = min(views or needed, needed)
    exact = views == needed and codec.is_exact_for(computed) and (returned or computed == torch.float32)
    size = peak_bytes(shapes, images, views, held_out, codec)
    none = CacheDecision("none", None, views=0, codec=codec, exact=True, bytes=0)
    if kind == "none" or not shapes:
        return none
    if fresh_views and augmented:
        if kind != "auto":
            raise LayerwiseError(f"dataset.fresh_views=true cannot be cached: remove it, or cache={kind}.")
        return replace(none, message="no cache, the prefix is recomputed: each stage sees fresh views of the images")
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
    """Returns a size in bytes as `1.5 GB` or `20 kB`."""
    for unit, divisor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:.3g} {unit}"
    return f"{size} B"


def _free_on_disk(folder: Path) -> int:
    """Returns the free bytes, with those of the run's own earlier cache, which is overwritten."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    own = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return shutil.disk_usage(existing).free + own
