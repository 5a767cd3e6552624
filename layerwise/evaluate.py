"""Exact evaluation: every sample once, counted, without padding and without averaging over batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.models.blocknet import Segment
from layerwise.precision import Precision
from layerwise.types import Batch, Scores


@torch.no_grad()
def predict(segment: Segment, batches: Iterable[Batch], precision: Precision) -> dict[int, Tensor]:
    """Class scores of all samples at each of the segment's depths.

    Args:
        segment: trained blocks and heads; they are put in eval mode.
        batches: features x_start of all samples, in order.

    Returns:
        {depth: [N, c] float32}, on the device of the batches.
    """
    segment.eval()
    collected: list[list[Tensor]] = [[] for _ in segment.depths]
    for batch in batches:
        with precision.autocast():
            for rows, readout in zip(collected, segment(batch.inputs), strict=True):
                rows.append(readout.scores.float())
    return {depth: torch.cat(rows) for depth, rows in zip(segment.depths, collected, strict=True)}


def score(z: Tensor, targets: Tensor, on_probabilities: bool = False) -> Scores:
    """Loss and accuracies of class scores.

    Args:
        z: [N, c] raw scores, or probabilities if `on_probabilities`.
        targets: [N] int64.
    """
    n, classes = z.shape
    loss = F.nll_loss(z.clamp_min(1e-12).log(), targets) if on_probabilities else F.cross_entropy(z, targets)
    hits = z.topk(min(5, classes), dim=1).indices == targets[:, None]  # [N, 5]
    return {
        "loss": float(loss),
        "top1": 100.0 * int(hits[:, :1].sum()) / n,
        "top5": 100.0 * int(hits.sum()) / n,
    }
