"""Finished stages of another run that this one would compute to the bit: taken instead of trained again.

The paper's smaller final classifier (M̃_f) is the last step of a finished network trained
anew; with `plan.reuse=FOLDER model.final_head_width=512` only this step runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from layerwise.config.build import build_agenda
from layerwise.config.identity import differences
from layerwise.config.parse import from_yaml
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.models.blocknet import BlockNet
from layerwise.runs.checkpoints import Checkpoints, rows_of
from layerwise.runs.data_check import Listing, changed_data
from layerwise.runs.finished import segment_of
from layerwise.runs.origin import origin_of
from layerwise.runs.run_files import CHECKPOINTS, CONFIG
from layerwise.training.plan import Stage

LAST_BLOCK_ONLY = ("model.final_head_width", "J", "plan.max_blocks")
"""Keys that change nothing before the last block of either run."""


def shared_stages(source: Path, config: ResolvedConfig, folder: Path) -> list[Stage]:
    """The stages that a run has in common with another one: those of the blocks before the last of either.

    Raises:
        LayerwiseError: the source is no run's folder or this run's own, or the runs differ in more than their last
            block.
    """
    if source.resolve() == folder.resolve():
        raise LayerwiseError(f"plan.reuse={source}: is the folder of this run. Name another run's, or leave it out.")
    other = resolve(from_yaml(source / CONFIG))
    both = min(config.J, other.J)
    here, there = (replace(run, model=run.model.first_blocks(both)) for run in (config, other))
    differing = [found for found in differences(there, here) if found[0] not in LAST_BLOCK_ONLY]
    if differing:
        values = "; ".join(f"{key}: {theirs} there, {mine} here" for key, theirs, mine in differing)
        raise LayerwiseError(
            f"plan.reuse={source}: that run differs in more than its last block ({values}). "
            f"Only {' and '.join(LAST_BLOCK_ONLY)} may differ."
        )
    if config.J != other.J and config.objective.transport is not None:
        raise LayerwiseError(
            f"plan.reuse={source}: objective.transport weighs blocks by J, which is {other.J} there and {config.J} "
            "here. Leave plan.reuse out."
        )
    mine, theirs = build_agenda(config).stages(), build_agenda(other).stages()
    last = min(mine[-1].stop, theirs[-1].stop)
    return [stage for stage, same in zip(mine, theirs, strict=False) if stage == same and stage.stop < last]


def refuse_other_data(source: Path, spec: DatasetSpec, listing: Listing) -> None:
    """Refuses a run that was trained on other data.

    Args:
        spec: of the data of this run.
        listing: of them.

    Raises:
        LayerwiseError: says what differs.
    """
    if changed := changed_data(source, spec, listing):
        raise LayerwiseError(f"plan.reuse={source}: {changed} Leave plan.reuse out.")


def take_over(source: Path, shared: list[Stage], checkpoints: Checkpoints, network: BlockNet) -> int:
    """Copies the finished ones of some stages, marked as `reused`, into a run that has none of its own.

    A run that has begun keeps to its own stages: on GPUs those of two runs may differ in their last bits, and a
    block must stand on the features that it was trained on.

    Args:
        shared: what `shared_stages` gave.
        network: of this run; a function of another package may have made another one for its number of blocks.

    Returns:
        Number of stages that were copied.

    Raises:
        LayerwiseError: the weights of a stage are others than those of the network.
    """
    if any(checkpoints.folder.glob("stage_*")):
        return 0
    agenda = build_agenda(resolve(from_yaml(source / CONFIG)))
    trees, _ = Checkpoints(source / CHECKPOINTS, checkpoints.warn, origin_of(source)).read_finished(agenda)
    pairs = zip(shared, agenda.stages(rows_of(trees)), trees, strict=False)
    taken = [(stage, tree) for stage, theirs, tree in pairs if stage == theirs]
    for stage, tree in taken:
        _check_shapes(source, stage, tree["segment"], segment_of(network, stage).state_dict())
        if tree.get("kept_filters") is not None:
            break  # pruned: the shapes of what follows are not those of the new network
    for stage, tree in taken:
        for row in tree["rows"]:
            row["reused"] = str(source)
        checkpoints.save_finished(stage, tree)
    return len(taken)


def _check_shapes(source: Path, stage: Stage, theirs: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> None:
    there, here = ({name: list(value.shape) for name, value in one.items()} for one in (theirs, mine))
    if other := next((name for name in {**here, **there} if there.get(name) != here.get(name)), None):
        raise LayerwiseError(
            f"plan.reuse={source}: {stage.title} has another network there: {other} is {there.get(other, 'absent')}, "
            f"and {here.get(other, 'absent')} here. Leave plan.reuse out."
        )
