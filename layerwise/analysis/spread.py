"""Mean and standard deviation of a figure over several runs."""

from __future__ import annotations

import statistics
from typing import Any


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for one value) and the values."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": values}


def with_spread(values: dict[str, Any], form: str = ".2f") -> str:
    """`75.5 ± 0.4`."""
    return f"{values['mean']:{form}}" + ("" if values["std"] is None else f" ± {values['std']:{form}}")
