"""Finished stages of another run that this one would compute to the bit: taken instead of trained again.

The paper's smaller final classifier (M̃_f) is the last step of a finished network trained
anew; with `plan.reuse=FOLDER model.final_head_width=512` only this step runs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from layerwise.build import build_stages
from layerwise.checkpoint import Checkpoints
from layerwise.config import from_yaml, identity, resolve
from layerwise.errors import LayerwiseError, writing
from layerwise.run_folder import CHECKPOINTS, CONFIG, RunFolder
from layerwise.schema import Config

LAST_STAGE_ONLY = ("model.final_head_width", "J")
"""Keys that change nothing before the last block of either run."""


def reuse_stages(source: Path, config: Config, folder: RunFolder) -> int:
    """Copies the checkpoints of stages that both runs share, if this one has none yet.

    Args:
        source: folder of the other run.
        config: of this run, resolved.
        folder: of this run.

    Returns:
        The number of stages that are taken from there or were before.

    Raises:
        LayerwiseError: the folder is no run's, or the runs differ in more than their last stage.
    """
    other = resolve(from_yaml(source / CONFIG))
    here, there = identity(config), identity(other)
    differing = [key for key in here if here[key] != there.get(key) and key not in LAST_STAGE_ONLY]
    if differing:
        values = "; ".join(f"{key}: {there.get(key)} there, {here[key]} here" for key in differing)
        raise LayerwiseError(
            f"plan.reuse={source}: that run differs in more than its last stage ({values}). "
            f"Only {' and '.join(LAST_STAGE_ONLY)} may differ."
        )
    mine, theirs = build_stages(config), build_stages(other)
    shared = [stage for stage, same in zip(mine[:-1], theirs[:-1], strict=False) if stage == same]
    checkpoints = Checkpoints(source / CHECKPOINTS, warn=print)
    readable, _ = checkpoints.read_finished(shared)
    for stage in shared[: len(readable)]:
        path = folder.checkpoints / checkpoints.finished_path(stage).name
        if not path.exists():
            with writing(path, kept="Nothing was trained yet."):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(checkpoints.finished_path(stage), path.with_suffix(".part"))
                path.with_suffix(".part").rename(path)
    return len(readable)
