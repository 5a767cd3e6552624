"""Exact evaluation: every sample counts once, without padding and without averages over batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from layerwise.core.distributed import all_reduce_sum
from layerwise.core.precision import Precision
from layerwise.core.types import Accuracies, Batch
from layerwise.models.blocknet import Segment
from layerwise.training.objectives import Objective


@torch.no_grad()
def predict(segment: Segment, batches: Iterable[Batch], precision: Precision) -> dict[int, Tensor]:
    """Returns the class scores of all samples at each depth of a segment.

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


@torch.no_grad()
def mean_losses(
    segment: Segment, batches: Iterable[Batch], precision: Precision, objective: Objective, shared: bool = False
) -> dict[int, float]:
    """Returns the objective's mean over all samples at each depth of a segment.

    Args:
        segment: trained blocks and heads or decoders; they are put in eval mode.
        shared: whether each process has only a part of the samples; then the call is collective.
    """
    segment.eval()
    total, n = torch.zeros(len(segment.depths), dtype=torch.float64), 0
    for batch in batches:
        with precision.autocast():
            terms = objective(segment(batch.inputs), batch.targets)
        total += torch.stack(terms["means"]["loss"]).double().cpu() * len(batch.targets)
        n += len(batch.targets)
    if shared:
        *sums, n = all_reduce_sum(torch.cat([total, torch.tensor([n], dtype=torch.float64)])).tolist()
        total = torch.tensor(sums, dtype=torch.float64)
    return dict(zip(segment.depths, (total / n).tolist(), strict=True))


def accuracies(z: Tensor, targets: Tensor) -> Accuracies:
    """Returns the shares of samples, in per cent, whose class has the highest score or one of the five highest.

    Args:
        z: [N, c] scores or probabilities.
        targets: [N] int64.
    """
    n, classes = z.shape
    hits = z.topk(min(5, classes), dim=1).indices == targets[:, None]  # [N, 5]; five, so that ties go the same way
    top1 = 100.0 * int(hits[:, :1].sum()) / n
    return {"top1": top1, "top5": 100.0 * int(hits.sum()) / n} if classes > 5 else {"top1": top1}
