"""Where the features x_j that a stage trains on come from.

`Recompute` runs the frozen prefix at each step. `Cached` holds x_j of the newest frozen depth, for
one or more augmented views of the data, and is *advanced* through one block when a stage ends: all
stages together cost J passes of one block each, not J².

Epoch e reads view e mod V. With a view per epoch (or without augmentation, with one view) and a
format that holds the features without loss, both sources give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from layerwise.core import distributed
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.core.randomness import bits, key
from layerwise.core.shard import EVERYTHING, Shard
from layerwise.core.types import Batch, Target
from layerwise.data.dataset import Dataset, SplitName
from layerwise.features.store import FeatureStores
from layerwise.models.blocknet import freeze


class TrainingSource(Protocol):
    """Features of the training samples, in batches."""

    def train(self, stage: int, epoch: int, first_step: int = 0, target: Target = "labels") -> Iterator[Batch]:
        """The shuffled, augmented batches of one epoch of a stage, from a step on: all samples that have the target."""


class Source(TrainingSource, Protocol):
    """Features x_depth of all splits, in batches."""

    @property
    def depth(self) -> int:
        """Number of frozen blocks."""

    def evaluate(self, split: SplitName, target: Target = "labels", mirrored: bool = False) -> Iterator[Batch]:
        """All samples of a split in order, not augmented; of the training samples those that have the target.

        Args:
            split: which samples.
            target: that goes with them.
            mirrored: gives the features of mirror images, which no cache holds.
        """

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        """Freezes newly trained blocks and gives their outputs from now on."""

    def close(self) -> None:
        """Gives back what the source holds."""


@dataclass(frozen=True)
class BatchPlan:
    """How an epoch is cut into batches, and what of each batch a process gets.

    Sample i of the training split, dealt to the batch's B places in turn, stays at place i mod B in all epochs;
    an epoch shuffles the samples of each place among themselves. As the dealing is random, the order of an epoch is,
    too; and since N divides B, each of N processes gets B/N samples of each batch, always from its own N-th of the
    split: the batches are the same for any N, and a process needs to hold no other samples than its own.

    Attributes:
        batch_size: B, images per training step of all processes together; the last step of an epoch may have fewer.
        seed: of the shuffles.
        shard: of the training split that this process holds.
        batches_a_pass: training batches that are taken at once where no gradients are computed, which keeps a GPU
            busier and takes less memory than to train on one.
    """

    batch_size: int
    seed: int
    shard: Shard = EVERYTHING
    batches_a_pass: int = 1

    @property
    def size(self) -> int:
        """B/N, images in this process's batches in training."""
        return self.batch_size // self.shard.ranks

    @property
    def pass_size(self) -> int:
        """Images that this process takes at once in evaluation and while a cache is advanced."""
        return self.size * self.batches_a_pass

    def order(self, stage: int, epoch: int, n: int, device: torch.device) -> Tensor:
        """[n] positions of this process's first n samples, shuffled by (seed, stage, epoch) alone."""
        rounds = -(-n // self.size)
        own = torch.arange(rounds * self.size, device=device)
        draws = bits(key("order", self.seed, stage, epoch), own * self.shard.ranks + self.shard.rank)
        draws[n:] = torch.iinfo(torch.int64).max  # what the last round lacks stays last
        by_place = torch.argsort(draws.view(rounds, self.size), dim=0, stable=True)  # [rounds, B/N]
        return (by_place * self.size + own[: self.size]).flatten()[:n]


class Recompute:
    """Runs the frozen blocks on freshly augmented images at each step, as the paper's code does."""

    def __init__(self, data: Dataset, plan: BatchPlan, precision: Precision, prefix: Sequence[nn.Module] = ()) -> None:
        self.data, self.plan, self.precision = data, plan, precision
        freeze(prefix)
        self.prefix = list(prefix)

    @property
    def depth(self) -> int:
        return len(self.prefix)

    def train(self, stage: int, epoch: int, first_step: int = 0, target: Target = "labels") -> Iterator[Batch]:
        order = self.plan.order(stage, epoch, self.data.having_here(target), self.data.device)
        return self.in_batches("train", order[first_step * self.plan.size :], self.plan.size, view=epoch, target=target)

    def evaluate(self, split: SplitName, target: Target = "labels", mirrored: bool = False) -> Iterator[Batch]:
        return self.read(split, in_order(self.data, split, target), None, target, mirrored)

    def read(
        self, split: SplitName, order: Tensor, view: int | None, target: Target = "labels", mirrored: bool = False
    ) -> Iterator[Batch]:
        """Features of the samples at some positions, augmented with a view's draws, or of their mirror images."""
        return self.in_batches(split, order, self.plan.pass_size, view, target, mirrored)

    def in_batches(
        self, split: SplitName, order: Tensor, size: int, view: int | None, target: Target, mirrored: bool = False
    ) -> Iterator[Batch]:
        """The same in batches of a size."""
        for x, labels in self.data.batches(split, order, size, view, mirrored):
            yield Batch(run_frozen(self.prefix, x, self.precision), x if target == "inputs" else labels)

    def most_batches(self, split: SplitName) -> int:
        """Batches that a pass over a split takes in the process that has most."""
        return -(-self.data.shards[split].most(len(self.data.labels[split])) // self.plan.pass_size)

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        freeze(blocks)
        self.prefix += blocks

    def close(self) -> None:
        """Nothing is held."""


class Cached:
    """Holds x_j on the device, in host memory or on the disk.

    Args:
        images: gives x_0; it has no prefix.
        stores: makes the stores of each depth and, after a restart, finds the newest one.
        views: V, stored augmented versions of each training image.
        stop: asked between batches while the cache is advanced.
        prefix: blocks that are frozen already; what no store holds of them is computed once, now.
    """

    def __init__(
        self,
        images: Recompute,
        stores: FeatureStores,
        views: int,
        stop: StopRequest,
        prefix: Sequence[nn.Module] = (),
    ) -> None:
        self.images, self.stores, self.views, self.stop = images, stores, views, stop
        freeze(prefix)
        self.store = stores.newest(prefix)  # None: the images are their own cache at depth 0
        depth = self.store.depth if self.store else 0
        if distributed.AllReduceMax(depth, -depth).wait() != [depth, -depth]:
            self.store = None  # all processes advance alike
        self.prefix = list(prefix[: self.store.depth]) if self.store else []
        if missing := prefix[len(self.prefix) :]:
            self.advance(missing)

    @property
    def depth(self) -> int:
        return len(self.prefix)

    def train(self, stage: int, epoch: int, first_step: int = 0, target: Target = "labels") -> Iterator[Batch]:
        plan, data = self.images.plan, self.images.data
        order = plan.order(stage, epoch, data.having_here(target), data.device)
        view = epoch % self.views if self.store else epoch  # images need no store: all their views are there
        return self.in_batches("train", order[first_step * plan.size :], plan.size, view, target)

    def evaluate(self, split: SplitName, target: Target = "labels", mirrored: bool = False) -> Iterator[Batch]:
        data = self.images.data
        order = in_order(data, split, target)
        if mirrored or (split == "train" and data.augmented):  # of these the store holds augmented views only
            return Recompute(data, self.images.plan, self.images.precision, self.prefix).read(
                split, order, None, target, mirrored
            )
        return self.read(split, order, None, target)

    def read(self, split: SplitName, order: Tensor, view: int | None, target: Target = "labels") -> Iterator[Batch]:
        """Features of the samples at some positions, as the store holds them."""
        return self.in_batches(split, order, self.images.plan.pass_size, view, target)

    def in_batches(
        self, split: SplitName, order: Tensor, size: int, view: int | None, target: Target
    ) -> Iterator[Batch]:
        """The same in batches of a size."""
        if self.store is None:
            yield from self.images.in_batches(split, order, size, view, target)
            return
        data = self.images.data
        labels = data.splits[split].labels
        inputs = data.batches(split, order, size, view) if target == "inputs" else None
        stored = self.store.read(split, view or 0, order, size, data.device)
        for positions, features in zip(order.split(size), stored, strict=True):
            features = features.to(self.images.precision.dtype)  # as a block gives them
            yield Batch(features, next(inputs).inputs if inputs else labels.index_select(0, positions))

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        """One pass of the new blocks over all views of all splits; the old store goes when the new one is whole."""
        freeze(blocks)
        splits = self.images.data.splits
        new = self.stores.create([*self.prefix, *blocks])
        try:
            for split in splits:
                order = torch.arange(len(splits[split]), device=self.images.data.device)
                most = self.images.most_batches(split)
                for view in range(self.views) if split == "train" else [None]:
                    with new.writer(split, view or 0, len(order)) as writer:
                        for batch in self.stop.all_watch(self.read(split, order, view), most):
                            writer.append(run_frozen(blocks, batch.inputs, self.images.precision))
            new.commit()
            distributed.barrier()  # until all are whole, the old ones are what a crash goes back to
        except BaseException:
            new.discard()  # a full disk is not left full
            raise
        if self.store is not None:
            self.store.delete()
        self.store = new
        self.prefix += blocks

    def close(self) -> None:
        self.stores.close()
        self.store = None


def in_order(data: Dataset, split: SplitName, target: Target) -> Tensor:
    """Positions of all samples of a split that are here, of the training samples those that have the target."""
    n = data.having_here(target) if split == "train" else len(data.splits[split])
    return torch.arange(n, device=data.device)


@torch.no_grad()
def run_frozen(blocks: Sequence[nn.Module], x: Tensor, precision: Precision) -> Tensor:
    """Outputs of frozen blocks (batch norms use their running statistics)."""
    with precision.autocast():
        for block in blocks:
            x = block(x)
    return x
