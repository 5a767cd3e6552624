"""How an epoch is cut into batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layerwise.core.randomness import bits, key
from layerwise.core.shard import EVERYTHING, Shard

VIEWS_OF_A_STAGE = 1 << 20
"""More than the epochs of any stage, and even, so that alternating flips begin alike."""


@dataclass(frozen=True)
class BatchPlan:
    """How an epoch is cut into batches, and which part of each batch a process gets.

    A batch has B places. Sample i of the training split always has place i mod B (the split is in random order); an
    epoch shuffles the samples of each place among themselves. Since N divides B, each of N processes gets B/N samples
    of each batch, always from its own N-th of the split. So the batches do not depend on N, and a process holds only
    its own samples.

    Attributes:
        batch_size: B, images per training step in all processes together; the last step of an epoch may have fewer.
        shard: the part of the training split that this process holds.
        fresh_views: whether each stage augments the images anew; else epoch e of every stage sees the same views.
        accumulate: parts that a batch is computed in; it changes neither the batches nor their order.
        batches_a_pass: number of training batches, or parts, in one pass without gradients: larger passes keep a GPU
            busy, and still take less memory than training on one batch.
    """

    batch_size: int
    seed: int
    shard: Shard = EVERYTHING
    batches_a_pass: int = 1
    fresh_views: bool = False
    accumulate: int = 1

    @property
    def size(self) -> int:
        """B/N, images of this process in a training batch."""
        return self.batch_size // self.shard.ranks

    @property
    def part_size(self) -> int:
        """Images of this process that pass through the trained blocks at a time."""
        return self.size // self.accumulate

    @property
    def pass_size(self) -> int:
        """Images of this process in one pass of an evaluation, or while a cache is advanced."""
        return self.part_size * self.batches_a_pass

    def view(self, stage: int, epoch: int) -> int:
        """Returns the view of the training images in an epoch; stage and epoch count from 0."""
        return epoch + (VIEWS_OF_A_STAGE * stage if self.fresh_views else 0)

    def order(self, stage: int, epoch: int, n: int, device: torch.device) -> Tensor:
        """Returns the positions [n] of this process's first n samples, shuffled by (seed, stage, epoch) alone."""
        rounds = -(-n // self.size)
        own = torch.arange(rounds * self.size, device=device)
        draws = bits(key("order", self.seed, stage, epoch), own * self.shard.ranks + self.shard.rank)
        draws[n:] = torch.iinfo(torch.int64).max  # positions that the last round lacks stay last
        by_place = torch.argsort(draws.view(rounds, self.size), dim=0, stable=True)  # [rounds, B/N]
        return (by_place * self.size + own[: self.size]).flatten()[:n]
