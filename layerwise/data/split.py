"""Class-aware choices of samples: validation splits, folds, and small subsets for quick trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, permutation

TEST_PART = 0.2
"""Share of the samples to test on where a data set has no test samples of its own."""


def strata(labels: Tensor) -> Tensor:
    """The classes int64 [N] that choices keep in proportion: real-valued targets are one class."""
    return torch.zeros_like(labels, dtype=torch.int64) if labels.is_floating_point() else labels


def balanced_order(labels: Tensor, family: int) -> Tensor:
    """A random order of all samples in which every prefix is as class-balanced as the data allow.

    Args:
        labels: int64 [N].

    Returns:
        int64 [N], positions; the first sample of each class comes first, then the second of each, …
    """
    by_class, rank, _ = _ranks(labels, family)
    return by_class[torch.argsort(rank, stable=True)]


def stratified_order(labels: Tensor, family: int) -> Tensor:
    """A random order of all samples of which every prefix has the same share of each class, up to one sample.

    Classes of one size take turns: where many have a single sample, these come together in the middle.
    Args and result are those of `balanced_order`; for classes of equal size the two agree.
    """
    by_class, rank, size = _ranks(labels, family)
    return by_class[torch.argsort((rank + 0.5) / size, stable=True)]


def _ranks(labels: Tensor, family: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shuffled positions sorted by class, the rank of each within its class, and the class's size."""
    labels = strata(labels)
    shuffled = permutation(family, len(labels), labels.device)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    counts = torch.bincount(labels)
    first = torch.cumsum(counts, 0) - counts  # where each class begins in `by_class`
    classes = labels[by_class]
    rank = torch.arange(len(labels), device=labels.device) - first[classes]
    return by_class, rank, counts[classes].double()


def hold_out(labels: Tensor, fraction: float, seed: int, last: bool = False) -> tuple[Tensor, Tensor]:
    """Positions that stay for training, and those held out for choosing, both sorted.

    Args:
        last: holds out the last samples; else a stratified random part.

    Raises:
        LayerwiseError: nothing would be held out, or nothing left.
    """
    held = round(fraction * len(labels))
    if not 0 < held < len(labels):
        raise LayerwiseError(
            f"dataset.validation={fraction}: of {len(labels)} training samples this holds out {held}. "
            "Choose a fraction that leaves some on both sides, such as 0.1, or 0 for no validation split."
        )
    if last:
        positions = torch.arange(len(labels), device=labels.device)
        return positions[:-held], positions[-held:]
    order = stratified_order(labels, key("validation", seed))
    return order[held:].sort().values, order[:held].sort().values


def test_part(labels: Tensor, fraction: float, family: int, source: str) -> tuple[Tensor, Tensor]:
    """Positions to train on and to test on, where a data set has no test samples of its own; stratified, both sorted.

    Args:
        labels: int64 [N].
        family: key of the randomness; no seed, so that all runs test on the same samples.

    Raises:
        LayerwiseError: one of the two would be empty.
    """
    held = round(fraction * len(labels))
    if not 0 < held < len(labels):
        raise LayerwiseError(
            f"dataset.test={fraction}: of the {len(labels)} samples of {source} this leaves {held} to test on and "
            f"{len(labels) - held} to train on. Choose a fraction that leaves some on both sides."
        )
    order = stratified_order(labels, family)
    return order[held:].sort().values, order[:held].sort().values


def fold_out(labels: Tensor, folds: int, fold: int) -> tuple[Tensor, Tensor]:
    """Positions outside a fold and in it, for cross-validation, both sorted.

    From fold to fold the numbers of samples differ by one at most, in all and of each class. The folds
    depend on nothing but the labels, so that runs with different seeds share them.

    Args:
        labels: int64 [N].
        fold: 1 … folds.

    Raises:
        LayerwiseError: there are fewer samples than folds.
    """
    if folds > len(labels):
        raise LayerwiseError(f"dataset.folds={folds}: there are only {len(labels)} training samples. Use fewer folds.")
    by_class, _, _ = _ranks(labels, key("folds"))
    inside = torch.arange(len(labels), device=labels.device) % folds == fold - 1  # dealt like cards, class after class
    return by_class[~inside].sort().values, by_class[inside].sort().values


def fraction_of(labels: Tensor, fraction: float, seed: int, option: str) -> Tensor:
    """Sorted positions of a stratified part of the samples, at least one of each class.

    Raises:
        LayerwiseError: a class would be left without a sample; names `option`.
    """
    n = round(fraction * len(labels))
    chosen = stratified_order(labels, key(option, seed))[:n].sort().values
    check_classes(labels, chosen, f"{option}={fraction}")
    return chosen


def check_classes(labels: Tensor, chosen: Tensor, option: str) -> None:
    """Refuses a choice of positions without a sample of some class.

    Raises:
        LayerwiseError: names `option`.
    """
    labels = strata(labels)
    if len(labels[chosen].unique()) < len(labels.unique()):
        raise LayerwiseError(
            f"{option}: of {len(labels)} training samples this leaves {len(chosen)}, and none of some class. "
            "Use a larger fraction."
        )


def limit(labels: Tensor, n: int, seed: int, option: str) -> Tensor:
    """The first n positions of a seeded, class-balanced order.

    Raises:
        LayerwiseError: there are fewer than n samples; names `option`.
    """
    if n > len(labels):
        raise LayerwiseError(f"{option}={n}: there are only {len(labels)} samples. Use a smaller number, or null.")
    return balanced_order(labels, key("limit", seed))[:n]


def limit_both(labels: Tensor, labelled: Tensor | None, n: int, seed: int, option: str) -> tuple[Tensor, Tensor | None]:
    """The first n positions as `limit` gives them, with labelled and other samples in the proportion of the whole.

    Args:
        labels: int64 [N].
        labelled: positions whose labels may be used; None for all.
        n, seed, option: as for `limit`.

    Returns:
        The positions, and where among them the labelled ones are: no sample gains a label that it did not have.

    Raises:
        LayerwiseError: there are fewer than n samples; names `option`.
    """
    if labelled is None or n > len(labels):
        return limit(labels, n, seed, option), None
    others = torch.ones_like(labels, dtype=torch.bool).index_fill_(0, labelled, False).nonzero().view(-1)
    share = round(n * len(labelled) / len(labels))
    parts = [part[limit(labels[part], size, seed, option)] for part, size in ((labelled, share), (others, n - share))]
    return torch.cat(parts), torch.arange(share, device=labels.device)


def dealing_order(n: int, labelled: Tensor | None, seed: int) -> Tensor:
    """A random order in which training samples are dealt to the places of a batch, and so to processes.

    Args:
        labelled: [m] positions of those whose labels may be used, which come first; None for all.

    Returns:
        int64 [n], positions.
    """
    order = permutation(key("dealing", seed), n, "cpu" if labelled is None else labelled.device)
    if labelled is None:
        return order
    has_label = torch.zeros(n, dtype=torch.bool, device=order.device)
    has_label[labelled] = True
    return torch.cat([order[has_label[order]], order[~has_label[order]]])


def class_weights(labels: Tensor, classes: int, asked: str | Sequence[float] | None) -> Tensor | None:
    """Returns the factor of the loss of each class, float32 [c]; None for equal ones.

    Args:
        labels: int64 [N], of the training samples with a label.
        asked: "balanced" makes the factors inverse to the numbers of samples, so that all classes count the same and
            the mean factor of a sample is 1; a list gives them.

    Raises:
        LayerwiseError: neither, or a list of another length or with values that are not above 0.
    """
    if asked is None:
        return None
    if asked == "balanced":
        counts = torch.bincount(labels, minlength=classes).clamp(min=1)
        return (len(labels) / (classes * counts)).float()
    if isinstance(asked, str) or len(asked) != classes or not all(0 < w < math.inf for w in asked):
        shown = asked if isinstance(asked, str) else list(asked)
        raise LayerwiseError(
            f"dataset.class_weights={shown}: use balanced, or a list of {classes} numbers above 0, one for each class."
        )
    return torch.tensor(asked, dtype=torch.float32, device=labels.device)
