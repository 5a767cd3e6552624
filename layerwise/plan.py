"""A run is a list of stages; a plan writes the list.

Greedy training (paper, algorithm 1) is J one-block stages. End-to-end training of the same network
is one stage over all blocks that reads the last head only.
"""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.errors import LayerwiseError


@dataclass(frozen=True)
class Stage:
    """Trains blocks start+1 … stop and the heads at `depths`, on features x_start.

    Attributes:
        index: position in the plan, from 0; it keys the shuffles.
        start: number of frozen blocks before the trained ones.
        stop: depth of the last trained block.
        depths: depths whose heads are trained and evaluated.
        epochs: passes over the training data.
        warm_start: begin from the identity block and the previous head (Proposition 3.1).
    """

    index: int
    start: int
    stop: int
    depths: tuple[int, ...]
    epochs: int
    warm_start: bool = False

    @property
    def title(self) -> str:
        """`block 2`, or `blocks 1–4`."""
        first = self.start + 1
        return f"block {first}" if self.stop == first else f"blocks {first}–{self.stop}"


def greedy(J: int, epochs: int, warm_start: bool = False) -> list[Stage]:
    """One stage per block, each with its own head."""
    return [
        Stage(j - 1, start=j - 1, stop=j, depths=(j,), epochs=epochs, warm_start=warm_start and j > 1)
        for j in range(1, J + 1)
    ]


def joint(J: int, epochs: int) -> list[Stage]:
    """All blocks end to end in one stage, read by the last head."""
    return [Stage(0, start=0, stop=J, depths=(J,), epochs=epochs)]


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
