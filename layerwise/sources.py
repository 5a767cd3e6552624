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

from layerwise.counters import key, permutation
from layerwise.data import ImageData, SplitName
from layerwise.feature_store import FeatureStores
from layerwise.interrupt import StopRequest
from layerwise.models.blocknet import freeze
from layerwise.precision import Precision
from layerwise.types import Batch


class Source(Protocol):
    """Features x_depth of all splits, in batches."""

    @property
    def depth(self) -> int:
        """Number of frozen blocks."""

    def train(self, stage: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The shuffled, augmented batches of one epoch of a stage, from a step on."""

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        """All samples of a split in order, not augmented."""

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        """Freezes newly trained blocks and gives their outputs from now on."""

    def close(self) -> None:
        """Gives back what the source holds."""


@dataclass(frozen=True)
class BatchPlan:
    """How an epoch is cut into batches.

    Attributes:
        batch_size: images per training step, evaluation batch and batch that advances a cache; the last of
            an epoch may be smaller.
        seed: of the shuffles.
    """

    batch_size: int
    seed: int

    def order(self, stage: int, epoch: int, n: int, device: torch.device) -> Tensor:
        """[n] positions, shuffled by (seed, stage, epoch) alone."""
        return permutation(key("order", self.seed, stage, epoch), n, device)


class Recompute:
    """Runs the frozen blocks on freshly augmented images at each step, as the paper's code does."""

    def __init__(
        self, data: ImageData, plan: BatchPlan, precision: Precision, prefix: Sequence[nn.Module] = ()
    ) -> None:
        self.data, self.plan, self.precision = data, plan, precision
        freeze(prefix)
        self.prefix = list(prefix)

    @property
    def depth(self) -> int:
        return len(self.prefix)

    def train(self, stage: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        order = self.plan.order(stage, epoch, len(self.data.splits["train"]), self.data.device)
        order = order[first_step * self.plan.batch_size :]
        return self.read("train", order, self.plan.batch_size, view=epoch)

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        order = torch.arange(len(self.data.splits[split]), device=self.data.device)
        return self.read(split, order, self.plan.batch_size, view=None)

    def read(self, split: SplitName, order: Tensor, batch_size: int, view: int | None) -> Iterator[Batch]:
        """Features of the images at some positions, augmented with a view's draws."""
        for batch in self.data.batches(split, order, batch_size, view):
            yield Batch(run_frozen(self.prefix, batch.inputs, self.precision), batch.targets)

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        freeze(blocks)
        self.prefix += blocks

    def close(self) -> None:
        """Nothing is held."""


class Cached:
    """Holds x_j in memory or on the disk.

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
        self.prefix = list(prefix[: self.store.depth]) if self.store else []
        if missing := prefix[len(self.prefix) :]:
            self.advance(missing)

    @property
    def depth(self) -> int:
        return len(self.prefix)

    def train(self, stage: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        plan, labels = self.images.plan, self.images.data.splits["train"].labels
        order = plan.order(stage, epoch, len(labels), labels.device)[first_step * plan.batch_size :]
        view = epoch % self.views if self.store else epoch  # images need no store: all their views are there
        return self.read("train", order, plan.batch_size, view)

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        labels = self.images.data.splits[split].labels
        order = torch.arange(len(labels), device=labels.device)
        return self.read(split, order, self.images.plan.batch_size, view=None)

    def read(self, split: SplitName, order: Tensor, batch_size: int, view: int | None) -> Iterator[Batch]:
        """Features of the samples at some positions, as the store holds them."""
        if self.store is None:
            yield from self.images.read(split, order, batch_size, view)
            return
        data = self.images.data
        rows = order.cpu()  # once, so that no step waits for the device
        for positions, on_host in zip(order.split(batch_size), rows.split(batch_size), strict=True):
            stored = self.store.read(split, view or 0, on_host)
            features = stored.to(data.device, self.images.precision.dtype, non_blocking=True)  # as a block gives them
            yield Batch(features, data.splits[split].labels[positions])

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        """One pass of the new blocks over all views of all splits; the old store goes when the new one is whole."""
        freeze(blocks)
        splits, plan = self.images.data.splits, self.images.plan
        new = self.stores.create([*self.prefix, *blocks])
        try:
            for split in splits:
                order = torch.arange(len(splits[split]), device=self.images.data.device)
                for view in range(self.views) if split == "train" else [None]:
                    with new.writer(split, view or 0, len(order)) as writer:
                        for batch in self.stop.watch(self.read(split, order, plan.batch_size, view)):
                            writer.append(run_frozen(blocks, batch.inputs, self.images.precision))
            new.commit()
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


@torch.no_grad()
def run_frozen(blocks: Sequence[nn.Module], x: Tensor, precision: Precision) -> Tensor:
    """Outputs of frozen blocks (batch norms use their running statistics)."""
    with precision.autocast():
        for block in blocks:
            x = block(x)
    return x
