"""A run is a list of stages; a plan writes the list.

Greedy training (paper, algorithm 1) is one stage per block. End-to-end training of the same network
is one stage over all blocks that reads the last head only. Simultaneous training (decoupled greedy
learning) is one stage over all blocks that reads all heads and stops the gradient behind each.
"""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.errors import LayerwiseError


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
        warm_start: begin from the identity block and the previous head (Proposition 3.1).
        detached: stop the gradient behind each head.
        prune_to: filters that the stage's block keeps once it is trained, or None for all.
    """

    index: int
    start: int
    stop: int
    depths: tuple[int, ...]
    epochs: int
    warm_start: bool = False
    detached: bool = False
    prune_to: int | None = None

    @property
    def title(self) -> str:
        """`block 2`, `blocks 1–4`, or `head 2`."""
        first = self.start + 1
        if self.start == self.stop:
            return f"head {self.stop}"
        return f"block {first}" if self.stop == first else f"blocks {first}–{self.stop}"


def greedy(J: int, epochs: int, *, blocks_per_stage: int = 1, warm_start: bool = False) -> list[Stage]:
    """One stage per group of blocks, each with a head behind its last block."""
    stops = group_ends(J, blocks_per_stage)
    return [
        Stage(i, start=start, stop=stop, depths=(stop,), epochs=epochs, warm_start=warm_start and i > 0)
        for i, (start, stop) in enumerate(zip([0, *stops], stops, strict=False))
    ]


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


def joint(J: int, epochs: int) -> list[Stage]:
    """All blocks end to end in one stage, read by the last head."""
    return [Stage(0, start=0, stop=J, depths=(J,), epochs=epochs)]


def simultaneous(J: int, epochs: int, *, blocks_per_stage: int = 1) -> list[Stage]:
    """All blocks at once, each group of them learning from the head behind it (Belilovsky et al. 2020: DGL)."""
    stops = group_ends(J, blocks_per_stage)
    return [Stage(0, start=0, stop=J, depths=tuple(stops), epochs=epochs, detached=True)]


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
