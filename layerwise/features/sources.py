"""Where the features x_j that a stage trains on come from.

`Recompute` runs the frozen prefix at each step. `Cached` stores x_j of the newest frozen depth, for one or more
augmented views of the data. When a stage ends it is *advanced* through the new block, so all stages together cost J
passes through one block each, not J².

Epoch e reads view e mod V. With a view per epoch (or one view, without augmentation) and a format that stores the
features without loss, both sources give the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from layerwise.core import distributed
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.core.types import Batch, Target
from layerwise.data.dataset import Dataset, SplitName
from layerwise.features.batches import BatchPlan
from layerwise.features.store import FeatureStores
from layerwise.models.blocknet import freeze


class TrainingSource(Protocol):
    """Features of the training samples, in batches."""

    def train(self, stage: int, epoch: int, first_step: int = 0, target: Target = "labels") -> Iterator[Batch]:
        """Yields the shuffled, augmented batches of an epoch from a step on: all samples that have the target."""


class Source(ABC):
    """Features x_depth of all splits, in batches."""

    def __init__(self, data: Dataset, plan: BatchPlan, precision: Precision, prefix: Sequence[nn.Module] = ()) -> None:
        self.data, self.plan, self.precision = data, plan, precision
        freeze(prefix)
        self.prefix = list(prefix)

    @property
    def depth(self) -> int:
        """Number of frozen blocks."""
        return len(self.prefix)

    def train(self, stage: int, epoch: int, first_step: int = 0, target: Target = "labels") -> Iterator[Batch]:
        """Yields the shuffled, augmented batches of an epoch from a step on: all samples that have the target."""
        order = self.plan.order(stage, epoch, self.data.having_here(target), self.data.device)
        return self.batches(
            "train", order[first_step * self.plan.size :], self.plan.size, self.view(stage, epoch), target
        )

    def evaluate(self, split: SplitName, target: Target = "labels", mirrored: bool = False) -> Iterator[Batch]:
        """Yields all samples of a split in order, not augmented; of the training split those that have the target.

        Args:
            mirrored: gives the features of mirror images, which no cache stores.
        """
        n = self.data.having_here(target) if split == "train" else len(self.data.splits[split])
        return self.read(split, torch.arange(n, device=self.data.device), None, target, mirrored)

    def read(
        self, split: SplitName, order: Tensor, view: int | None, target: Target = "labels", mirrored: bool = False
    ) -> Iterator[Batch]:
        """Yields the samples at some positions, in the batches of a pass without gradients; see `batches`."""
        return self.batches(split, order, self.plan.pass_size, view, target, mirrored)

    def most_batches(self, split: SplitName) -> int:
        """Returns the largest number of batches that a pass over a split takes in any process."""
        return -(-self.data.shards[split].most(len(self.data.labels[split])) // self.plan.pass_size)

    def view(self, stage: int, epoch: int) -> int:
        """Returns the view that an epoch trains on."""
        return self.plan.view(stage, epoch)

    @abstractmethod
    def batches(
        self, split: SplitName, order: Tensor, size: int, view: int | None, target: Target, mirrored: bool = False
    ) -> Iterator[Batch]:
        """Yields the features of the samples at some positions.

        Args:
            order: positions [n], on the device of the data.
            size: samples per batch; the last batch may be smaller.
            view: view whose augmentation is used; None: no augmentation.
        """

    @abstractmethod
    def advance(self, blocks: Sequence[nn.Module]) -> None:
        """Freezes newly trained blocks, and gives their outputs from now on. Collective."""

    @abstractmethod
    def close(self) -> None:
        """Frees the memory or disk space of the source."""


class Recompute(Source):
    """Runs the frozen blocks on freshly augmented images at each step, as the paper's code does."""

    def batches(
        self, split: SplitName, order: Tensor, size: int, view: int | None, target: Target, mirrored: bool = False
    ) -> Iterator[Batch]:
        for x, labels in self.data.batches(split, order, size, view, mirrored):
            yield Batch(self._features(x), x if target == "inputs" else labels)

    def _features(self, x: Tensor) -> Tensor:
        """The outputs of the frozen blocks; of a batch that is computed in parts, part by part."""
        parts = x.split(self.plan.pass_size) if self.plan.accumulate > 1 and self.prefix else [x]
        features = [run_frozen(self.prefix, part, self.precision) for part in parts]
        return features[0] if len(features) == 1 else torch.cat(features)

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        freeze(blocks)
        self.prefix += blocks

    def close(self) -> None:
        pass


class Cached(Source):
    """Stores x_j on the device, in host memory or on the disk.

    Args:
        images: source of x_0, without a prefix.
        stores: makes the store of each depth and, after a restart, finds the newest one.
        views: V, the number of augmented views of each training image that are stored.
        stop: polled between batches while the cache is advanced.
        prefix: frozen blocks; the outputs that no store holds are computed now.
    """

    def __init__(
        self,
        images: Recompute,
        stores: FeatureStores,
        views: int,
        stop: StopRequest,
        prefix: Sequence[nn.Module] = (),
    ) -> None:
        freeze(prefix)
        self.images, self.stores, self.views, self.stop = images, stores, views, stop
        self.store = stores.newest(prefix)  # None at depth 0, where the images need no store
        depth = self.store.depth if self.store else 0
        if distributed.AllReduceMax(depth, -depth).wait() != [depth, -depth]:
            self.store, depth = None, 0  # all processes advance alike
        super().__init__(images.data, images.plan, images.precision, prefix[:depth])
        if missing := prefix[depth:]:
            self.advance(missing)

    def view(self, stage: int, epoch: int) -> int:
        return epoch % self.views if self.store else epoch

    def batches(
        self, split: SplitName, order: Tensor, size: int, view: int | None, target: Target, mirrored: bool = False
    ) -> Iterator[Batch]:
        if self.store is None:
            return self.images.batches(split, order, size, view, target, mirrored)
        if mirrored or (split == "train" and view is None and self.data.augmented):  # the store holds no such images
            recompute = Recompute(self.data, self.plan, self.precision, self.prefix)
            return recompute.batches(split, order, size, view, target, mirrored)
        return self._stored_batches(split, order, size, view, target)

    def _stored_batches(
        self, split: SplitName, order: Tensor, size: int, view: int | None, target: Target
    ) -> Iterator[Batch]:
        assert self.store is not None
        inputs = self.data.batches(split, order, size, view) if target == "inputs" else None
        stored = self.store.read(split, view or 0, order, size, self.data.device)
        for positions, features in zip(order.split(size), stored, strict=True):
            features = features.to(self.precision.dtype)  # the format in which a block returns them
            yield Batch(features, next(inputs).inputs if inputs else self.data.targets(split, positions, view))

    def advance(self, blocks: Sequence[nn.Module]) -> None:
        """Runs all views of all splits through the new blocks once. The old store stays until the new one is complete.

        Raises:
            Interrupted: a signal has come; the old store is intact.
            LayerwiseError: the disk is full.
        """
        freeze(blocks)
        new = self.stores.create([*self.prefix, *blocks])
        try:
            for split, samples in self.data.splits.items():
                order = torch.arange(len(samples), device=self.data.device)
                for view in range(self.views) if split == "train" else [None]:
                    with new.writer(split, view or 0, len(order)) as writer:
                        batches = self.read(split, order, view)
                        for batch in self.stop.all_watch(batches, self.most_batches(split)):
                            writer.append(run_frozen(blocks, batch.inputs, self.precision))
            new.commit()
            distributed.barrier()  # a crash before this goes back to the old stores of all processes
        except BaseException:
            new.discard()  # do not leave the disk full
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
    """Returns the outputs of frozen blocks, whose batch norms use their running statistics."""
    with precision.autocast():
        for block in blocks:
            x = block(x)
    return x
