"""How good the outputs of a head are on held-out samples, for each kind of target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from layerwise.training.choices import LossName
from layerwise.training.classification import classification_report
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
class ClassScoring:
    """Class scores, judged by the labels int64.

    Args:
        name: of the loss that they were trained with.
        classes: names.
    """

    name: LossName
    classes: Sequence[str]

    def measures(self, z: Tensor, targets: Tensor) -> dict[str, float]:
        return dict(accuracies(z, targets))  # type: ignore[arg-type]

    def loss(self, z: Tensor, targets: Tensor) -> float:
        return float(class_loss(self.name, z, targets))

    def details(self, z: Tensor, targets: Tensor) -> dict[str, Any]:
        return {"classification": classification_report(z, targets, self.classes, self.name)}


@dataclass(frozen=True)
class ValueScoring:
    """One output z [N, 1], judged by real-valued targets; both are scaled to the targets' mean 0 and deviation 1.

    Args:
        name: of the loss that it was trained with.
        deviation: of the targets before they were scaled: the mean absolute error is given in their unit.
    """

    name: LossName
    deviation: float

    def measures(self, z: Tensor, targets: Tensor) -> dict[str, float]:
        """R² as in scikit-learn, with the mean of these targets, and the mean absolute error."""
        wanted = targets.double()
        error = z.double().squeeze(1) - wanted
        rest, whole = float(error.square().sum()), float((wanted - wanted.mean()).square().sum())
        r2 = 1 - rest / whole if whole else float(rest == 0)
        return {"r2": r2, "mae": self.deviation * float(error.abs().mean())}

    def loss(self, z: Tensor, targets: Tensor) -> float:
        return float(elementwise_loss(self.name, z.squeeze(1), targets))

    def details(self, z: Tensor, targets: Tensor) -> dict[str, Any]:
        return {}
