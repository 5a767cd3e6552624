"""Mean and standard deviation of a figure over several runs, and how far chance alone moves an accuracy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for one value) and the values."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": values}


def with_spread(values: dict[str, Any], form: str = ".2f") -> str:
    """`75.5 ± 0.4`."""
    return f"{values['mean']:{form}}" + ("" if values["std"] is None else f" ± {values['std']:{form}}")


def binomial_margin(accuracy: float, samples: int) -> float:
    """Returns half the width of Wilson's 95 % interval of an accuracy, both in %.

    Args:
        samples: of the test set.
    """
    z, share = 1.96, accuracy / 100
    inner = share * (1 - share) / samples + z**2 / (4 * samples**2)
    return 100 * z * math.sqrt(inner) / (1 + z**2 / samples)


def r2_margin(r2: float, samples: int) -> float:
    """Returns half the width of the asymptotic 95 % interval of a squared correlation, about that of R².

    Args:
        samples: of the test set.
    """
    share = min(1.0, max(0.0, r2))
    return 1.96 * 2 * math.sqrt(share / samples) * (1 - share)


def chance(accuracy: float, samples: int) -> str:
    """`n = 10,000, 95 % interval ±0.59`: what an axis says of one test set."""
    return f"n = {samples:,}, 95 % interval ±{binomial_margin(accuracy, samples):.2g}"
