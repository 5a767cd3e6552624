"""By what predictions are judged: one measure for each kind of target. Of each, larger is better."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """What depths and runs are compared by.

    Attributes:
        name: key of its value among the scores of a split in results.json.
        title: what texts call it.
        unit: last word of a column's heading.
        axis: title of an axis.
        form: format of a value without its unit.
    """

    name: str
    title: str
    unit: str
    axis: str
    form: str

    def number(self, value: float) -> str:
        """Returns a value as text without its unit."""
        return f"{value:{self.form}}"

    def shown(self, value: float | str) -> str:
        """Returns a value, or its text, as it stands below the title: `99.17 %` or `0.8712`."""
        text = value if isinstance(value, str) else self.number(value)
        return f"{text} %" if self.unit == "%" else text

    def told(self, value: float | str) -> str:
        """Returns a value, or its text, as it stands alone: `99.17 %` or `R² 0.8712`."""
        return self.shown(value) if self.unit == "%" else f"{self.unit} {self.shown(value)}"


ACCURACY = Measure("top1", "accuracy", "%", "accuracy (%)", ".2f")
R2 = Measure("r2", "R²", "R²", "R²", ".4f")
MEASURES = (ACCURACY, R2)


def measure_of(scores: Container[str], prefix: str = "") -> Measure | None:
    """Returns the measure that scores have; None of a reconstruction, which is judged by its loss.

    Args:
        prefix: of the names, such as `test_` in the final result.
    """
    return next((measure for measure in MEASURES if prefix + measure.name in scores), None)


def quality(scores: Mapping[str, Any]) -> float:
    """Returns the value of that measure."""
    measure = measure_of(scores)
    assert measure is not None  # a reconstruction is not compared
    return scores[measure.name]  # type: ignore[no-any-return]


def measured(scores: Mapping[str, float]) -> str:
    """Returns the value of that measure as it stands alone, or the loss."""
    measure = measure_of(scores)
    return f"loss {scores['loss']:.4f}" if measure is None else measure.told(scores[measure.name])
