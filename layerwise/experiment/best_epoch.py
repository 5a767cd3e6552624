"""`checkpoint.keep=best`: a stage ends with the weights of the epoch that was best on the validation samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from layerwise.core.measures import measure_of, quality
from layerwise.models.blocknet import Segment
from layerwise.training.reports import EpochReport


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch of a stage so far.

    Attributes:
        quality: on the validation samples, of the stage's last head or decoder; larger is better.
        report: fields of its `EpochReport`.
        weights: state of the segment as the stage would end with it.
    """

    quality: float
    report: dict[str, Any]
    weights: dict[str, Tensor]

    def put_back(self, segment: Segment) -> EpochReport:
        """Gives the segment the weights of the epoch, and returns its report."""
        segment.load_state_dict(self.weights)
        return EpochReport(**self.report)


def better(best: BestEpoch | None, report: EpochReport, scores: Mapping[str, float], segment: Segment) -> BestEpoch:
    """Returns the better of the best epoch so far and one that has just ended; of equals the earlier.

    Args:
        scores: of the validation samples.
        segment: with the weights that the stage would end with now.
    """
    now = -scores["loss"] if measure_of(scores) is None else quality(scores)
    if best is not None and not now > best.quality:
        return best
    weights = {name: value.detach().clone() for name, value in segment.state_dict().items()}
    return BestEpoch(now, asdict(report), weights)
