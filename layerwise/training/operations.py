"""Operations of a run, from the costs of its blocks and its stages; nothing is computed.

Only convolutions and linear layers count, a multiply-accumulate as two operations. Conventions:

- a training step is three forward passes of the trained blocks and their heads: one forward, two backward;
- a frozen prefix is one forward pass, each time that it is recomputed. A cache runs each block once over all stored
  views of the training samples and over the held-out ones;
- evaluation is one forward pass of what the stage trained, behind the prefix unless a cache holds its outputs, and
  is counted apart.

So the counts do not depend on the machine. They are those of a run that is never interrupted, over all processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layerwise.core.types import Target
from layerwise.models.costs import BlockCost
from layerwise.training.plan import Stage

TRAINING_PASSES = 3
"""Forward passes that cost as much as a training step."""


@dataclass(frozen=True)
class Operations:
    """Numbers of operations.

    Attributes:
        train: of steps, in the trained blocks and heads.
        prefix: of frozen blocks, for training and for filling caches.
        evaluate: of scoring, with the frozen blocks where they are recomputed.
    """

    train: int = 0
    prefix: int = 0
    evaluate: int = 0

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.train + other.train, self.prefix + other.prefix, self.evaluate + other.evaluate)

    def in_pflop(self) -> dict[str, float]:
        """The numbers in 10^15 operations; `total_train` is train + prefix."""
        counts = {**vars(self), "total_train": self.train + self.prefix}
        return {name: count / 1e15 for name, count in counts.items()}


@dataclass(frozen=True)
class Workload:
    """What passes through the blocks of a run.

    Attributes:
        costs: of all blocks, as the run leaves them.
        unpruned: of each block before it is pruned, behind pruned ones; the same as `costs` without pruning.
        tuned: as `costs`, but with the last head before another one takes its place; None: the same.
        samples: training samples that have the target, by target.
        stored: training samples that a cache stores.
        held_out: validation and test samples.
        views: V, augmented views that a cache stores; 0 without a cache.
        augmented: training samples are augmented.
        scores_train: training samples are scored, too.
        mirror: class scores are means over an image and its mirror image.
        every: epochs between two evaluations within a stage; 0 for none.
        chosen_by: validation samples that are scored after every other epoch, to choose one.
    """

    costs: Sequence[BlockCost]
    unpruned: Sequence[BlockCost]
    samples: Mapping[Target, int]
    stored: int
    held_out: int
    views: int
    augmented: bool
    scores_train: bool
    mirror: bool
    every: int
    tuned: Sequence[BlockCost] | None = None
    chosen_by: int = 0

    def operations(self, stages: Sequence[Stage]) -> Operations:
        """The operations of some first stages of a run, in order."""
        total, cached_depth = Operations(), 0
        for stage in stages:
            cached_depth = cached_depth if stage.start >= cached_depth else 0  # fine-tuning begins at the images again
            total += Operations(prefix=2 * self._fill(cached_depth, stage.start))
            total += self._train(stage) + self._evaluate(stage)
            cached_depth = stage.start
        return total

    def _train(self, stage: Stage) -> Operations:
        n, costs = self.samples[stage.target], self._costs_of(stage)
        heads = sum(costs[depth - 1].reader_macs(stage.target, training=True) for depth in stage.depths)
        macs = n * stage.epochs * TRAINING_PASSES * (self._trained_blocks(stage) + heads)
        epochs = stage.epochs
        if stage.prune_to is not None:  # the importance of filters takes an epoch without the weights' gradients
            cost = costs[stage.stop - 1]  # of all filters: later rounds have fewer
            macs += n * stage.prune_rounds * (cost.block_macs + 2 * cost.head_macs)
            epochs += stage.prune_rounds
        recomputed = 0 if self.views else n * epochs * self._prefix(stage.start)
        return Operations(train=2 * macs, prefix=2 * recomputed)

    def _evaluate(self, stage: Stage) -> Operations:
        evaluations = stage.epochs // self.every if self.every else 0
        train = self.samples[stage.target] if self.scores_train else 0
        macs = (1 + evaluations) * self._scoring(stage, train, self.held_out)
        return Operations(evaluate=2 * (macs + (stage.epochs - evaluations) * self._scoring(stage, 0, self.chosen_by)))

    def _scoring(self, stage: Stage, train: int, held_out: int) -> int:
        """Multiply-accumulates of scoring some samples with what a stage trained."""
        images = train + held_out
        mirrored = images if self.mirror and stage.target == "labels" else 0
        recomputed = images + mirrored
        if self.views:  # a cache has neither mirror images nor training images that are not augmented
            recomputed = mirrored + (train if self.augmented else 0)
        costs = self._costs_of(stage)
        heads = sum(costs[depth - 1].reader_macs(stage.target) for depth in stage.depths)
        return (images + mirrored) * (self._trained_blocks(stage) + heads) + recomputed * self._prefix(stage.start)

    def _fill(self, depth: int, start: int) -> int:
        """Multiply-accumulates that advance a cache from one depth to another."""
        images = self.views * self.stored + self.held_out if self.views else 0
        return images * (self._prefix(start) - self._prefix(depth))

    def _costs_of(self, stage: Stage) -> Sequence[BlockCost]:
        if stage.prune_to is not None:
            return self.unpruned
        only_head = stage.start == stage.stop and stage.head_width is None and not stage.restart_head
        return self.tuned if self.tuned is not None and only_head else self.costs

    def _trained_blocks(self, stage: Stage) -> int:
        return sum(cost.block_macs for cost in self._costs_of(stage)[stage.start : stage.stop])

    def _prefix(self, depth: int) -> int:
        return sum(cost.block_macs for cost in self.costs[:depth])
