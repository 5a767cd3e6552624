"""What the training loop reports: an epoch, and a glance at one that is not over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layerwise.training.step import GRADIENT


def mean_scores(sums: Mapping[str, Sequence[float]], images: int) -> list[dict[str, float]]:
    """Returns the mean loss of each head and how good it is, as far as the objective says: `top1` in per cent.

    Args:
        sums: the objective's sums over the samples by name, with an entry per head; norms of gradients, which are
            not of heads, are left out.
        images: number of samples in the sums.
    """
    kept = {name: totals for name, totals in sums.items() if name != "correct" and not name.startswith(GRADIENT)}
    means = {name: [total / images for total in totals] for name, totals in kept.items()}
    if "correct" in sums:
        means["top1"] = [100.0 * total / images for total in sums["correct"]]
    return [dict(zip(means, values, strict=True)) for values in zip(*means.values(), strict=True)]


@dataclass(frozen=True)
class EpochReport:
    """The results of one epoch on its own (augmented) training samples.

    Attributes:
        epoch: number of the epoch in its stage, from 0.
        steps: training steps done.
        sums: the objective's sums over the samples of all processes by name, with an entry per head.
        images: number of samples in the sums.
        complete: False if a stop was requested before the end of the epoch.
    """

    epoch: int
    steps: int
    sums: dict[str, list[float]]
    lr: float
    seconds: float
    images: int
    complete: bool

    @property
    def scores(self) -> list[dict[str, float]]:
        """Of each head, as `mean_scores`."""
        return mean_scores(self.sums, self.images)

    @property
    def gradients(self) -> dict[str, float]:
        """Mean norm of the gradient of each block and head, by name; empty if it was not measured."""
        norms = {name: sums for name, sums in self.sums.items() if name.startswith(GRADIENT)}
        return {name.removeprefix(GRADIENT): total / self.images for name, (total,) in norms.items()}

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Glance:
    """The epoch so far, for the last head that this process trains and over this process's samples.

    Attributes:
        steps: steps of the epoch that are done.
        scores: so far, as `mean_scores`.
        images: images of the epoch that all processes have trained on.
    """

    steps: int
    scores: dict[str, float]
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)
