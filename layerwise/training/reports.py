"""What the training loop reports: an epoch, and a glance at one that is not over."""

from __future__ import annotations

from dataclasses import dataclass


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
    def loss(self) -> list[float]:
        """Mean loss of each head."""
        return [total / self.images for total in self.sums["loss"]]

    @property
    def top1(self) -> list[float]:
        """Accuracy of each head in per cent; empty for a reconstruction."""
        return [100.0 * total / self.images for total in self.sums.get("correct", [])]

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Glance:
    """The epoch so far, for the last head that this process trains and over this process's samples.

    Attributes:
        steps: steps of the epoch that are done.
        top1: accuracy so far in per cent; None for a reconstruction.
        images: images of the epoch that all processes have trained on.
    """

    steps: int
    loss: float
    top1: float | None
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)
