"""Class-balanced choices of samples: the validation split and small subsets for quick trials."""

from __future__ import annotations

import torch
from torch import Tensor

from layerwise.counters import key, permutation
from layerwise.errors import LayerwiseError


def balanced_order(labels: Tensor, family: int) -> Tensor:
    """A random order of all samples in which every prefix is as class-balanced as the data allow.

    Args:
        labels: int64 [N].
        family: key of the randomness.

    Returns:
        int64 [N], positions; the first sample of each class comes first, then the second of each, …
    """
    shuffled = permutation(family, len(labels), labels.device)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    counts = torch.bincount(labels)
    first = torch.cumsum(counts, 0) - counts  # where each class begins in `by_class`
    rank = torch.arange(len(labels), device=labels.device) - first[labels[by_class]]
    return by_class[torch.argsort(rank, stable=True)]


def hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions that stay for training, and those held out for choosing; both sorted.

    Raises:
        LayerwiseError: nothing would be held out, or nothing left.
    """
    held = round(fraction * len(labels))
    if not 0 < held < len(labels):
        raise LayerwiseError(
            f"dataset.validation={fraction}: of {len(labels)} training images this holds out {held}. "
            "Choose a fraction that leaves some on both sides, such as 0.1, or 0 for no validation split."
        )
    order = balanced_order(labels, key("validation", seed))
    return order[held:].sort().values, order[:held].sort().values


def limit(labels: Tensor, n: int, seed: int, option: str) -> Tensor:
    """The first n positions of a seeded, class-balanced order.

    Raises:
        LayerwiseError: there are fewer than n samples; names `option`.
    """
    if n > len(labels):
        raise LayerwiseError(f"{option}={n}: there are only {len(labels)} images. Use a smaller number, or null.")
    return balanced_order(labels, key("limit", seed))[:n]
