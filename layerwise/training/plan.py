"""A run is a list of stages, and a plan is a function that returns the list.

Greedy training (the paper's algorithm 1) is one stage per block. End-to-end training of the same network is one stage
over all blocks with the last head only; deep supervision is the same with all heads. Simultaneous training (decoupled
greedy learning) is one stage over all blocks with all heads, and stops the gradient behind each. The encoder of an
autoencoder grows by two stages per block: one reconstructs the input, the other one trains a classifier.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from layerwise.core.errors import LayerwiseError
from layerwise.core.measures import quality
from layerwise.core.types import Target


@dataclass(frozen=True)
class Stage:
    """Trains blocks start+1 … stop and the heads at `depths`, on features x_start.

    If start = stop, only the head at that depth is trained.

    Attributes:
        index: position in the plan, from 0, which keys the shuffles.
        start: number of frozen blocks before the trained blocks.
        stop: depth of the last trained block.
        depths: depths whose heads are trained and evaluated.
        target: what the heads predict: class labels, or the network's input (then the heads are decoders).
        carry_from: depth of the trained head whose weights the head at `stop` begins with, or None.
        freeze_head: whether that head keeps these weights, so that only the blocks are trained.
        restart_head: whether the head at `stop` begins with fresh weights, though an earlier stage has trained it.
        warm_start: whether the block begins as the identity (proposition 3.1).
        detached: whether the gradient stops behind each head.
        prune_to: number of filters that the block keeps after its training, or None for all.
        prune_rounds: number of times that the importance of the filters is measured meanwhile.
        head_width: a fresh head of this width takes the place of the one at `stop`, or None.
        lr: base learning rate of this stage, or None for that of the run.
    """

    index: int
    start: int
    stop: int
    depths: tuple[int, ...]
    epochs: int
    target: Target = "labels"
    carry_from: int | None = None
    freeze_head: bool = False
    restart_head: bool = False
    warm_start: bool = False
    detached: bool = False
    prune_to: int | None = None
    prune_rounds: int = 1
    head_width: int | None = None
    lr: float | None = None

    @property
    def title(self) -> str:
        """Such as `block 2`, `blocks 1–4`, `head 2` or `autoencoder 2`."""
        first = self.start + 1
        if self.start == self.stop:
            return f"head {self.stop}"
        what = "block" if self.target == "labels" else "autoencoder"
        if self.stop == first:
            return f"{what} {first}"
        return f"{what}s {first}–{self.stop}" if what == "block" else f"{what} {first}–{self.stop}"


def greedy(
    J: int, epochs: int, *, blocks_per_stage: int = 1, carried: bool = False, warm_start: bool = False
) -> list[Stage]:
    """Returns one stage per group of blocks, each with a head behind its last block.

    Args:
        epochs: epochs of each stage.
        carried: whether each head begins with the weights of the head before it.
        warm_start: whether each block begins as the identity, and its head with the weights of the head before it.
    """
    stops = group_ends(J, blocks_per_stage)
    stages = []
    for i, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
        before = start if i > 0 and (carried or warm_start) else None
        stages.append(Stage(i, start, stop, (stop,), epochs, carry_from=before, warm_start=warm_start and i > 0))
    return stages


def compressed(
    J: int, epochs: int, *, prune_to: list[int], prune_epochs: int, rounds: int = 1, last_head_width: int | None = None
) -> list[Stage]:
    """Returns stages of greedy training that prune each trained block and then fine-tune its head.

    The next block is trained on the outputs of the pruned one. At the end the last head may be trained anew, at another
    width.

    Args:
        epochs: epochs of each block.
        prune_to: number of filters that block j keeps, at position j−1.
        prune_epochs: epochs of each head's fine-tuning.
        rounds: rounds of each pruning.
        last_head_width: width of the new last head, or None.
    """
    stages: list[Stage] = []
    for j in range(1, J + 1):
        stages.append(Stage(len(stages), j - 1, j, (j,), epochs, prune_to=prune_to[j - 1], prune_rounds=rounds))
        stages.append(Stage(len(stages), start=j, stop=j, depths=(j,), epochs=prune_epochs))
    if last_head_width is not None:
        stages.append(Stage(len(stages), start=J, stop=J, depths=(J,), epochs=epochs, head_width=last_head_width))
    return stages


def autoencoder(J: int, epochs: int, *, classifier_epochs: int, carried: bool) -> list[Stage]:
    """Returns stages that grow an encoder block by block under a decoder, with a classifier at each depth.

    Args:
        epochs: epochs of each block and its decoder.
        classifier_epochs: epochs of each classifier on the frozen features.
        carried: whether each decoder begins with the weights of the decoder before it.
    """
    stages: list[Stage] = []
    for j in range(1, J + 1):
        before = j - 1 if carried and j > 1 else None
        stages.append(Stage(len(stages), j - 1, j, (j,), epochs, target="inputs", carry_from=before))
        stages.append(Stage(len(stages), start=j, stop=j, depths=(j,), epochs=classifier_epochs))
    return stages


def checked_stages(stages: Any, J: int, name: str) -> list[Stage]:
    """Returns the stages that a function of another package gave, numbered.

    Args:
        name: of the function, for messages.

    Raises:
        LayerwiseError: they are no stages of a network of J blocks.
    """
    if not isinstance(stages, Sequence) or not all(isinstance(stage, Stage) for stage in stages):
        raise LayerwiseError(f"{name}: must return a list of layerwise.training.plan.Stage.")
    if not stages:
        raise LayerwiseError(f"{name}: returned no stages.")
    trained: set[tuple[Target, int]] = set()
    for n, stage in enumerate(stages, 1):
        _check_types(stage, f"{name}: stage {n}")
        if not 0 <= stage.start <= stage.stop <= J or stage.stop == 0:
            raise LayerwiseError(f"{name}: stage {n} trains blocks {stage.start + 1}–{stage.stop}; blocks are 1–{J}.")
        if stage.epochs < 1:
            raise LayerwiseError(f"{name}: stage {n} has {stage.epochs} epochs; it needs 1 or more.")
        if stage.lr is not None and not 0 < stage.lr < math.inf:
            raise LayerwiseError(f"{name}: stage {n} has lr={stage.lr}; it must be above 0, or None for optimizer.lr.")
        _check_beginning(stage, trained, f"{name}: stage {n}")
        trained |= {(stage.target, depth) for depth in stage.depths}
        if stage.stop not in stage.depths or any(
            not max(1, stage.start) <= depth <= stage.stop for depth in stage.depths
        ):
            raise LayerwiseError(
                f"{name}: stage {n} has heads at depths {list(stage.depths)}; it needs one at depth {stage.stop}, and "
                f"none before depth {max(1, stage.start)}."
            )
    deepest = max(stage.stop for stage in stages)
    if not any(stage.target == "labels" and stage.stop == deepest for stage in stages):
        raise LayerwiseError(f"{name}: no stage trains a classifier at depth {deepest}, the last.")
    return [replace(stage, index=index) for index, stage in enumerate(stages)]


def _check_beginning(stage: Stage, trained: Collection[tuple[Target, int]], name: str) -> None:
    """Refuses to begin with a head that no stage before has trained, or with the identity where it is not defined."""
    if stage.carry_from is not None and (stage.target, stage.carry_from) not in trained:
        raise LayerwiseError(f"{name} carries the head of depth {stage.carry_from}, which no stage before has trained.")
    before = stage.stop - 1
    if stage.warm_start and (stage.start != before or (stage.target, before) not in trained):
        raise LayerwiseError(
            f"{name} has warm_start=True; it must train one block, behind one whose head a stage before has trained."
        )


def _check_types(stage: Stage, name: str) -> None:
    """Refuses values of other types or an order of depths, which dataclasses do not check."""
    depths = stage.depths
    if not isinstance(depths, Sequence) or not depths:
        raise LayerwiseError(f"{name} has depths={depths}; give a tuple of depths, such as ({stage.stop},).")
    if stage.lr is not None and not isinstance(stage.lr, int | float):
        raise LayerwiseError(f"{name} has lr={stage.lr!r}; it must be a number, or None for optimizer.lr.")
    numbers = [("start", stage.start), ("stop", stage.stop), ("epochs", stage.epochs)]
    for field, value in [*numbers, *(("depths", depth) for depth in depths)]:
        if not isinstance(value, int):
            raise LayerwiseError(f"{name} has {field}={value!r}; it must be a whole number.")
    if list(depths) != sorted(set(depths)):
        raise LayerwiseError(f"{name} has depths={list(depths)}; give each once, in ascending order.")
    if stage.target not in get_args(Target):
        raise LayerwiseError(f"{name} has target={stage.target!r}; use {' or '.join(get_args(Target))}.")


def joint(J: int, epochs: int) -> list[Stage]:
    """Returns one stage that trains all blocks and the last head end to end."""
    return [Stage(0, start=0, stop=J, depths=(J,), epochs=epochs)]


def simultaneous(J: int, epochs: int, *, blocks_per_stage: int = 1) -> list[Stage]:
    """Returns one stage in which each group of blocks learns from the head behind it (Belilovsky et al. 2020: DGL)."""
    stops = group_ends(J, blocks_per_stage)
    return [Stage(0, start=0, stop=J, depths=tuple(stops), epochs=epochs, detached=True)]


def deep_supervision(J: int, epochs: int, *, blocks_per_stage: int = 1) -> list[Stage]:
    """Returns one stage that trains all blocks and the head behind each group, with gradients through everything."""
    return [Stage(0, start=0, stop=J, depths=tuple(group_ends(J, blocks_per_stage)), epochs=epochs)]


def behind(stages: Sequence[Stage], frozen: int) -> list[Stage]:
    """Returns the stages without the training of the first `frozen` blocks: of these, only heads are trained."""
    starts = [min(max(stage.start, frozen), stage.stop) for stage in stages]
    return [
        replace(stage, start=start, depths=tuple(depth for depth in stage.depths if depth >= start))
        for stage, start in zip(stages, starts, strict=True)
    ]


@dataclass(frozen=True)
class FineTuning:
    """Stages that train all blocks of the grown network together.

    Attributes:
        epochs: epochs of the blocks and the classifier; 0 for no such stage.
        autoencoder_epochs: epochs of the blocks and the decoder before that, after which the classifier is trained
            afresh; 0 for no such stages.
        classifier_epochs: epochs of that classifier.
        lr: base learning rate of the stages that train blocks, or None for that of the run.
    """

    epochs: int = 0
    autoencoder_epochs: int = 0
    classifier_epochs: int = 0
    lr: float | None = None

    def stages(self, depth: int, index: int) -> list[Stage]:
        """Returns the stages for a network of a depth, numbered from `index`."""
        whole = Stage(index, start=0, stop=depth, depths=(depth,), epochs=self.epochs, lr=self.lr)
        if not self.autoencoder_epochs:
            return [whole] if self.epochs else []
        encode = replace(whole, epochs=self.autoencoder_epochs, target="inputs")
        classify = Stage(index + 1, depth, depth, (depth,), self.classifier_epochs, restart_head=True)
        return [encode, classify, *([replace(whole, index=index + 2)] if self.epochs else [])]


Rows = Sequence[Mapping[str, Any]]
"""Results of a finished stage: a row for each depth that it reads, with `validation` if there is such a split."""


@dataclass(frozen=True)
class Agenda:
    """The stages of a run, of which later ones may depend on the results of earlier ones.

    Attributes:
        growth: the stages that train depth after depth; those of one depth are consecutive.
        finetuning: the stages that train the grown network.
        patience: number of depths without a better validation accuracy (or R²) after which growing ends; the best depth
            is then the result. None: it grows to the end, and the last depth is the result.
    """

    growth: list[Stage]
    finetuning: FineTuning = FineTuning()
    patience: int | None = None

    def stages(self, finished: Sequence[Rows] = ()) -> list[Stage]:
        """Returns all stages as far as they are known.

        Args:
            finished: rows of each finished stage, in order.
        """
        grown = self.grown(finished)
        return [*grown, *self.finetuning.stages(self.depth(finished), len(grown))]

    def grown(self, finished: Sequence[Rows]) -> list[Stage]:
        """Returns the stages before fine-tuning as far as they are known."""
        kept = self.depths[: self._end(self._validation(finished))]
        return [stage for stage in self.growth if stage.stop in kept]

    def depth(self, finished: Sequence[Rows]) -> int:
        """Returns the depth of the result: with patience the best so far, else the last one."""
        return self._best(self._validation(finished))

    @property
    def depths(self) -> list[int]:
        """The depths that are grown, in order."""
        return sorted({stage.stop for stage in self.growth})

    def _validation(self, finished: Sequence[Rows]) -> list[float]:
        """Returns the validation accuracy or R² of each finished depth; empty without patience."""
        scores: list[float] = []
        last_stages = {stage.stop: stage for stage in self.growth}.values()
        for stage in last_stages if self.patience is not None else ():
            if stage.index >= len(finished) or len(scores) == self._end(scores):
                break
            scores.append(quality(finished[stage.index][-1]["validation"]))
        return scores

    def _end(self, scores: list[float]) -> int:
        """Returns the number of depths after which growing ends, given the scores so far."""
        for n in range(1, len(scores) + 1):
            without_gain = n - 1 - scores.index(max(scores[:n]))
            if self.patience is not None and without_gain >= self.patience:
                return n
        return len(self.depths)

    def _best(self, scores: list[float]) -> int:
        return self.depths[scores.index(max(scores))] if scores else self.depths[-1]


def group_ends(J: int, size: int) -> list[int]:
    """Returns the depths at which groups of blocks end; the last group may be smaller."""
    return [*range(size, J, size), J]
