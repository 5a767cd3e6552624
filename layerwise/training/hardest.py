"""Which training samples a head finds hardest: a later stage may be trained on these alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from layerwise.core.precision import Precision
from layerwise.core.types import Batch
from layerwise.models.blocknet import Segment
from layerwise.training.objectives import sample_losses


@torch.no_grad()
def hardest_samples(segment: Segment, batches: Iterable[Batch], precision: Precision, loss: str, count: int) -> Tensor:
    """Returns the positions [count], ascending, of the samples with the largest losses.

    Args:
        segment: with one head; it is put in eval mode.
        batches: features and labels of all samples, in order.
        loss: its name in `choices.LOSSES`.
    """
    segment.eval()
    losses = []
    for batch in batches:
        with precision.autocast():
            (readout,) = segment(batch.inputs)
        losses.append(sample_losses(loss, readout.scores.float(), batch.targets))
    return torch.cat(losses).topk(count).indices.sort().values
