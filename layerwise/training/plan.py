"""A run is a list of stages; a plan writes the list.

Greedy training (paper, algorithm 1) is one stage per block. End-to-end training of the same network
is one stage over all blocks that reads the last head only. Simultaneous training (decoupled greedy
learning) is one stage over all blocks that reads all heads and stops the gradient behind each. An
autoencoder's encoder grows by a stage that reconstructs the input and one that reads the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layerwise.core.errors import LayerwiseError
from layerwise.core.types import Target


@dataclass(frozen=True)
class Stage:
    """Trains blocks start+1 … stop and the heads at `depths`, on features x_start.

    With start = stop no block is trained, only the head at that depth.

    Attributes:
        index: position in the plan, from 0; it keys the shuffles.
        start: number of frozen blocks before the trained ones.
        stop: depth of the last trained block.
        depths: depths whose heads are trained and evaluated.
        epochs: passes over the training data.
        target: what the heads predict: class labels, or the network's input (then the heads are decoders).
        carry_from: depth whose trained head the one at `stop` begins as, or None.
        restart_head: the head at `stop` begins anew, though an earlier stage trained it.
        warm_start: the block begins as the identity (Proposition 3.1).
        detached: stop the gradient behind each head.
        prune_to: filters that the stage's block keeps once it is trained, or None for all.
        lr: base learning rate of this stage, or None for the run's.
    """

    index: int
    start: int
    stop: int
    depths: tuple[int, ...]
    epochs: int
    target: Target = "labels"
    carry_from: int | None = None
    restart_head: bool = False
    warm_start: bool = False
    detached: bool = False
    prune_to: int | None = None
    lr: float | None = None

    @property
    def title(self) -> str:
        """`block 2`, `blocks 1–4`, `head 2`, or `autoencoder 2`."""
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
    """One stage per group of blocks, each with a head behind its last block.

    Args:
        J: number of blocks.
        epochs: of each stage.
        blocks_per_stage: size of a group.
        carried: a head begins as the trained one before it.
        warm_start: a block begins as the identity, and its head as the one before.
    """
    stops = group_ends(J, blocks_per_stage)
    stages = []
    for i, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
        before = start if i > 0 and (carried or warm_start) else None
        stages.append(Stage(i, start, stop, (stop,), epochs, carry_from=before, warm_start=warm_start and i > 0))
    return stages


def compressed(J: int, epochs: int, *, prune_to: list[int], prune_epochs: int) -> list[Stage]:
    """Greedy training in which each block is pruned once it is trained, and its head then fine-tuned.

    The next block sees the smaller one.

    Args:
        prune_to: filters that block j keeps, at position j−1.
        prune_epochs: of fine-tuning each head.
    """
    stages: list[Stage] = []
    for j in range(1, J + 1):
        stages.append(Stage(len(stages), start=j - 1, stop=j, depths=(j,), epochs=epochs, prune_to=prune_to[j - 1]))
        stages.append(Stage(len(stages), start=j, stop=j, depths=(j,), epochs=prune_epochs))
    return stages


def autoencoder(J: int, epochs: int, *, classifier_epochs: int, carried: bool) -> list[Stage]:
    """An encoder that grows block by block under a decoder; a classifier on the frozen features judges each depth.

    Args:
        J: blocks of the encoder.
        epochs: of each block and its decoder.
        classifier_epochs: of each classifier.
        carried: a decoder begins as the trained one before it.
    """
    stages: list[Stage] = []
    for j in range(1, J + 1):
        before = j - 1 if carried and j > 1 else None
        stages.append(Stage(len(stages), j - 1, j, (j,), epochs, target="inputs", carry_from=before))
        stages.append(Stage(len(stages), start=j, stop=j, depths=(j,), epochs=classifier_epochs))
    return stages


def joint(J: int, epochs: int) -> list[Stage]:
    """All blocks end to end in one stage, read by the last head."""
    return [Stage(0, start=0, stop=J, depths=(J,), epochs=epochs)]


def simultaneous(J: int, epochs: int, *, blocks_per_stage: int = 1) -> list[Stage]:
    """All blocks at once, each group of them learning from the head behind it (Belilovsky et al. 2020: DGL)."""
    stops = group_ends(J, blocks_per_stage)
    return [Stage(0, start=0, stop=J, depths=tuple(stops), epochs=epochs, detached=True)]


@dataclass(frozen=True)
class FineTuning:
    """Stages that train all blocks of the grown network together.

    Attributes:
        epochs: of blocks and classifier; 0 for none.
        autoencoder_epochs: of blocks and decoder, before that; 0 for none. The classifier is then fitted anew.
        classifier_epochs: of that.
        lr: base learning rate of the stages that train blocks.
    """

    epochs: int = 0
    autoencoder_epochs: int = 0
    classifier_epochs: int = 0
    lr: float | None = None

    def stages(self, depth: int, index: int) -> list[Stage]:
        """The stages for a network of some depth, numbered from `index` on."""
        whole = Stage(index, start=0, stop=depth, depths=(depth,), epochs=self.epochs, lr=self.lr)
        if not self.autoencoder_epochs:
            return [whole] if self.epochs else []
        encode = replace(whole, epochs=self.autoencoder_epochs, target="inputs")
        classify = Stage(index + 1, depth, depth, (depth,), self.classifier_epochs, restart_head=True)
        return [encode, classify, *([replace(whole, index=index + 2)] if self.epochs else [])]


Rows = Sequence[Mapping[str, Any]]
"""What a finished stage reports: a row per depth that it read, with `validation` where samples are held out."""


@dataclass(frozen=True)
class Agenda:
    """The stages of a run, of which the later ones may depend on how good the earlier ones turned out.

    Attributes:
        growth: the stages that train depth after depth; those of one depth stand together.
        finetuning: of the network that has grown.
        patience: growing ends when the validation accuracy has not improved for so many depths, and the best
            depth is the result; None grows to the end and takes the last depth.
    """

    growth: list[Stage]
    finetuning: FineTuning = FineTuning()
    patience: int | None = None

    def stages(self, finished: Sequence[Rows] = ()) -> list[Stage]:
        """All stages as far as they are known.

        Args:
            finished: rows of each finished stage, in order.
        """
        grown = self.grown(finished)
        return [*grown, *self.finetuning.stages(self.depth(finished), len(grown))]

    def grown(self, finished: Sequence[Rows]) -> list[Stage]:
        """The stages before fine-tuning, as far as they are known."""
        kept = self.depths[: self._end(self._validation(finished))]
        return [stage for stage in self.growth if stage.stop in kept]

    def depth(self, finished: Sequence[Rows]) -> int:
        """Depth of the result: the best so far where there is patience, else the last one."""
        return self._best(self._validation(finished))

    @property
    def depths(self) -> list[int]:
        """The depths that are grown, in order."""
        return sorted({stage.stop for stage in self.growth})

    def _validation(self, finished: Sequence[Rows]) -> list[float]:
        """Validation accuracy of each depth so far, if the depth is chosen by it."""
        scores: list[float] = []
        last_stages = {stage.stop: stage for stage in self.growth}.values()
        for stage in last_stages if self.patience is not None else ():
            if stage.index >= len(finished) or len(scores) == self._end(scores):
                break
            scores.append(finished[stage.index][-1]["validation"]["top1"])
        return scores

    def _end(self, scores: list[float]) -> int:
        """Number of depths after which growing ends, as far as one knows from the scores."""
        for n in range(1, len(scores) + 1):
            without_gain = n - 1 - scores.index(max(scores[:n]))
            if self.patience is not None and without_gain >= self.patience:
                return n
        return len(self.depths)

    def _best(self, scores: list[float]) -> int:
        return self.depths[scores.index(max(scores))] if scores else self.depths[-1]


def group_ends(J: int, size: int) -> list[int]:
    """Depths at which groups of blocks end; the last group may be smaller."""
    return [*range(size, J, size), J]


def check_warm_start(J: int, downsample: list[int]) -> None:
    """Refuses a warm start where a block cannot be the identity.

    Raises:
        LayerwiseError: a block after the first one is downsampled.
    """
    changed = [j for j in downsample if 1 < j <= J]
    if changed:
        raise LayerwiseError(
            f"plan.warm_start=true: block {changed[0]} is downsampled, so it cannot start as the identity and its "
            "head cannot be copied from the block before. Use model.downsample=[] (or [1]), or plan.warm_start=false."
        )
