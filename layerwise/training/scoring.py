"""How good the outputs of a head are on held-out samples, for each kind of target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from layerwise.core.errors import blamed
from layerwise.core.randomness import seeded
from layerwise.training.classification import classification_report
from layerwise.training.contracts import Loss
from layerwise.training.evaluate import accuracies
from layerwise.training.objectives import class_loss, elementwise_loss


class Scoring(Protocol):
    """Judges the outputs z [N, c] of a head, or of the ensemble, by the targets [N]. Both are on one device."""

    def measures(self, z: Tensor, targets: Tensor) -> dict[str, float]:
        """Returns how good they are, with a measure of `core.measures` first."""

    def loss(self, z: Tensor, targets: Tensor) -> float:
        """Returns the mean loss, without penalties."""

    def details(self, z: Tensor, targets: Tensor) -> dict[str, Any]:
        """Returns entries of results.json about the final result; z and targets are on the CPU."""


@dataclass(frozen=True)
class OwnLoss:
    """A loss of another package over all samples: the mean of its batches' means, weighted by their sizes.

    A mean over samples is exact so. A loss that compares the samples of a batch depends on which are together: here as
    many as in a batch of the training, in the order of the data set.

    Args:
        name: for messages.
        batch_size: samples in a batch; the last one may be smaller.
        device: where it is computed.
    """

    loss: Loss
    name: str
    batch_size: int
    device: torch.device

    @torch.no_grad()
    def __call__(self, z: Tensor, targets: Tensor) -> float:
        total = 0.0
        with blamed(f"{self.name}, called with held-out scores"), seeded(0):
            for part, wanted in zip(z.split(self.batch_size), targets.split(self.batch_size), strict=True):
                total += float(self.loss(part.to(self.device), wanted.to(self.device))) * len(part)
        return total / len(z)


@dataclass(frozen=True)
class ClassScoring:
    """Class scores, judged by the labels int64.

    Args:
        name: of the loss that they were trained with; with a loss of another package it says what the scores mean.
        classes: names.
        own: loss of another package, in place of the named one.
    """

    name: str
    classes: Sequence[str]
    own: OwnLoss | None = None

    def measures(self, z: Tensor, targets: Tensor) -> dict[str, float]:
        return dict(accuracies(z, targets))  # type: ignore[arg-type]

    def loss(self, z: Tensor, targets: Tensor) -> float:
        return float(class_loss(self.name, z, targets)) if self.own is None else self.own(z, targets)

    def details(self, z: Tensor, targets: Tensor) -> dict[str, Any]:
        return {"classification": classification_report(z, targets, self.classes, self.name)}


@dataclass(frozen=True)
class ValueScoring:
    """One output z [N, 1], judged by real-valued targets; both are scaled to the targets' mean 0 and deviation 1.

    Args:
        name: of the loss that it was trained with.
        deviation: of the targets before they were scaled: the mean absolute error is given in their unit.
        own: as in `ClassScoring`.
    """

    name: str
    deviation: float
    own: OwnLoss | None = None

    def measures(self, z: Tensor, targets: Tensor) -> dict[str, float]:
        """R² as in scikit-learn, with the mean of these targets, and the mean absolute error."""
        wanted = targets.double()
        error = z.double().squeeze(1) - wanted
        rest, whole = float(error.square().sum()), float((wanted - wanted.mean()).square().sum())
        r2 = 1 - rest / whole if whole else float(rest == 0)
        return {"r2": r2, "mae": self.deviation * float(error.abs().mean())}

    def loss(self, z: Tensor, targets: Tensor) -> float:
        values = z.squeeze(1)
        return float(elementwise_loss(self.name, values, targets)) if self.own is None else self.own(values, targets)

    def details(self, z: Tensor, targets: Tensor) -> dict[str, Any]:
        return {}
