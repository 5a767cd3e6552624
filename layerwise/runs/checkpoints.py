"""Which files of a run can be resumed from.

`stage_<s>.safetensors` holds a finished stage and is kept for good. `stage_<s>_step_<n>.safetensors` holds a stage in
training after n steps; the newest two are kept, so that a damaged one costs some epochs and not the stage. Each says
which run and stage it is of. `pretrained.safetensors` holds weights from elsewhere that the first blocks began with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from layerwise.core.distributed import in_main
from layerwise.core.errors import LayerwiseError, writing
from layerwise.core.files import DamagedFile, Tree, load_tree, save_tree
from layerwise.runs.origin import Origin
from layerwise.runs.run_files import PRETRAINED
from layerwise.training.plan import Agenda, Rows, Stage

KEPT_STEPS = 2
KEPT = "Earlier checkpoints are intact."

Weights = list[dict[str, Tensor]]
"""The state of block j, at position j−1; the network may have more blocks."""


class Checkpoints:
    """Reads and writes the checkpoints of one run, in the main process; all processes get what is read.

    Args:
        folder: folder of the checkpoints.
        warn: is told of each file that is damaged, stale or missing.
        origin: the run that they belong to.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None], origin: Origin) -> None:
        self.folder, self.warn, self.origin = folder, warn, origin

    @in_main
    def save_training(self, stage: Stage, step: int, tree: Tree) -> None:
        """Saves a stage in training after `step` steps and drops all but the newest two."""
        self._save(self.folder / f"stage_{stage.index + 1}_step_{step:09d}.safetensors", stage, tree)
        self._drop(self._steps(stage)[KEPT_STEPS:])

    @in_main
    def save_finished(self, stage: Stage, tree: Tree) -> None:
        """Saves a finished stage for good and drops its checkpoints in training."""
        self._save(self.finished_path(stage), stage, tree)
        self._drop(self._steps(stage))

    @in_main
    def load_training(self, stage: Stage) -> Tree | None:
        """Returns the newest undamaged state of a stage in training, or None: it starts from the beginning.

        Raises:
            LayerwiseError: a file is of another run or stage, or cannot be opened.
        """
        for path in self._steps(stage):
            try:
                return self._load(path, stage)
            except DamagedFile as error:
                _set_aside(path, "damaged")
                self.warn(f"{error}: set aside; falling back to the checkpoint before it")
        return None

    @in_main
    def load_finished(self, agenda: Agenda) -> list[Tree]:
        """Returns the finished stages from the first on, up to one that is missing or damaged.

        Stages behind such a one were trained on its features. They are set aside, not deleted.

        Raises:
            LayerwiseError: a file is of another run or stage, or cannot be opened.
        """
        trees, damage = self.read_finished(agenda)
        stages = agenda.stages(rows_of(trees))
        for stage in stages[: len(trees)]:
            self._drop(self._steps(stage))  # left by a process that was killed while it finished the stage
        stale = [path for path in self._all() if _stage_of(path) > len(trees) + 1]
        for path in stale:
            _set_aside(path, "stale")  # first: a crash in between must not leave them in use
        if damage is not None:
            _set_aside(self.finished_path(stages[len(trees)]), "damaged")
            self.warn(f"{damage}: set aside; {stages[len(trees)].title} is trained again, and what follows it")
        elif stale:
            absent = self.finished_path(stages[len(trees)]) if len(trees) < len(stages) else self.folder
            self.warn(f"{absent} is missing: {', '.join(path.name for path in stale)} are set aside and trained again")
        return trees

    def read_finished(self, agenda: Agenda) -> tuple[list[Tree], DamagedFile | None]:
        """As `load_finished`, but changes nothing.

        Returns:
            The readable stages, and the error if one was damaged.
        """
        trees: list[Tree] = []
        while len(trees) < len(stages := agenda.stages(rows_of(trees))):
            stage = stages[len(trees)]
            try:
                trees.append(self._load(self.finished_path(stage), stage))
            except FileNotFoundError:
                break
            except DamagedFile as error:
                return trees, error
        return trees, None

    def finished_path(self, stage: Stage) -> Path:
        return self.folder / f"stage_{stage.index + 1}.safetensors"

    def _save(self, path: Path, stage: Stage, tree: Tree) -> None:
        origin = {**self.origin.as_plain(), "stage": stage.index + 1}
        save_tree(path, tree | {"origin": origin}, KEPT, makes_folder=False)

    def _load(self, path: Path, stage: Stage) -> Tree:
        tree = load_tree(path)
        origin = tree.pop("origin", None)  # earlier versions wrote none
        self.origin.check(path, origin)
        if origin is not None and origin["stage"] != stage.index + 1:
            raise LayerwiseError(
                f"{path} holds stage {origin['stage']} of this run and not stage {stage.index + 1}. "
                "Rename it back, or delete it: the command then trains the stage again."
            )
        return tree

    def _all(self) -> list[Path]:
        """Returns the checkpoints of all stages."""
        return sorted(path for path in self.folder.glob("stage_*") if _NAME.fullmatch(path.name))

    def _steps(self, stage: Stage) -> list[Path]:
        """Returns the files of a stage in training, newest first."""
        found = [path for path in self._all() if _stage_of(path) == stage.index + 1 and "_step_" in path.name]
        return found[::-1]

    def _drop(self, paths: Sequence[Path]) -> None:
        for path in paths:
            with writing(path, KEPT):
                path.unlink(missing_ok=True)


_NAME = re.compile(r"stage_(\d+)(_step_\d{9,})?\.safetensors")


def _stage_of(path: Path) -> int:
    name = _NAME.fullmatch(path.name)
    assert name is not None
    return int(name[1])


def read_pretrained(folder: Path) -> Weights | None:
    """Reads the weights that the first blocks of a run began with; returns None if there is no such file.

    Raises:
        LayerwiseError: it is damaged, or cannot be opened.
    """
    try:
        blocks: Weights = load_tree(folder / PRETRAINED)["blocks"]
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        raise LayerwiseError(f"{error}. Delete it; the run's command then copies the weights again.") from error
    return blocks


def write_pretrained(folder: Path, weights: Weights) -> None:
    """Keeps these weights for the run, which needs their source no more, unless they are there."""
    if not (folder / PRETRAINED).exists():
        save_tree(folder / PRETRAINED, {"blocks": weights}, "Nothing was started.", makes_folder=False)


def rows_of(trees: Sequence[Tree]) -> list[Rows]:
    """Returns what finished stages reported."""
    return [tree["rows"] for tree in trees]


def _set_aside(path: Path, reason: str) -> None:
    with writing(path, KEPT):
        if path.exists():
            path.rename(path.with_suffix(f".{reason}"))
