"""What a finished stage leaves behind, and how it is put back into a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from layerwise.core.types import Target
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.runs.checkpoints import Weights
from layerwise.runs.metrics import check_lines, lost_epochs, read_lines
from layerwise.runs.origin import Origin
from layerwise.runs.run_files import METRICS
from layerwise.training.plan import Stage
from layerwise.training.pruning import prune_block


@dataclass(frozen=True)
class FinishedStage:
    """A finished stage, and what its checkpoint holds.

    Attributes:
        rows: one entry of results.json's `blocks` per depth that was read.
        scores: class scores [N, c] by held-out split and depth, for the ensembles of later depths; none of a
            stage that reconstructs.
        kept_filters: those that the stage's block keeps from now on, or None for all.
    """

    rows: list[dict[str, Any]]
    segment: dict[str, Tensor]
    scores: dict[str, dict[int, Tensor]]
    kept_filters: list[int] | None = None


def segment_of(network: BlockNet, stage: Stage) -> Segment:
    """What a stage trains of a network."""
    return Segment(network, stage.start, stage.stop, stage.depths, stage.detached, stage.target)


def begin_with(network: BlockNet, weights: Weights) -> None:
    """Puts weights into the first blocks of a network."""
    for block, state in zip(network.blocks, weights, strict=False):
        block.load_state_dict(state)


def restore(
    network: BlockNet,
    stages: Sequence[Stage],
    finished: Iterable[FinishedStage],
    last_head: Callable[[int], nn.Module],
) -> None:
    """Puts the weights of finished stages into a network, in order.

    Args:
        stages: the plan; the first of them are finished.
        last_head: builds a new last head of a width, as the network is then.
    """
    for stage, outcome in zip(stages, finished, strict=False):
        if stage.head_width is not None:
            network.heads[str(stage.stop)] = last_head(stage.head_width)
        segment_of(network, stage).load_state_dict(outcome.segment)
        if outcome.kept_filters is not None:
            prune_block(network, stage.stop, outcome.kept_filters)


def valid_depths(stages: Sequence[Stage], target: Target) -> list[int]:
    """Depths whose heads (or decoders) read the blocks that they were trained on, after some finished stages.

    A stage that trains earlier blocks again, as fine-tuning does, leaves the heads behind these blocks invalid.
    """
    valid: set[int] = set()
    for stage in stages:
        if stage.start < stage.stop:
            valid = {depth for depth in valid if depth <= stage.start}
        valid |= set(stage.depths) if stage.target == target else set()
    return sorted(valid)


def lost_lines(folder: Path, origin: Origin, stages: Sequence[Stage], finished: Sequence[FinishedStage]) -> str | None:
    """Says which epochs of finished stages metrics.jsonl has lost; refuses lines of another run about them."""
    own = [stage for stage, outcome in zip(stages, finished, strict=False) if "reused" not in outcome.rows[0]]
    path = folder / METRICS
    lines = [line for line in read_lines(path) if line["stage"] <= len(finished)]
    check_lines(path, lines, origin)
    return lost_epochs(path, lines, {stage.index + 1: stage.epochs for stage in own})
