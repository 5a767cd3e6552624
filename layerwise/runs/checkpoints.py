"""Which files of a run can be resumed from.

`stage_<s>.safetensors` holds a finished stage and is kept for good.
`stage_<s>_step_<n>.safetensors` holds a stage in training after n steps; the newest two are kept, so
that a damaged one costs some epochs and not the stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from layerwise.core.distributed import in_main
from layerwise.core.files import DamagedFile, Tree, load_tree, save_tree
from layerwise.training.plan import Agenda, Rows, Stage

KEPT_STEPS = 2


class Checkpoints:
    """Reads and writes the checkpoints of one run, in the main process; all processes get what is read."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder, self.warn = folder, warn

    @in_main
    def save_training(self, stage: Stage, step: int, tree: Tree) -> None:
        """Saves a stage in training after `step` steps and drops all but the newest two."""
        save_tree(self.folder / f"stage_{stage.index + 1}_step_{step:09d}.safetensors", tree)
        for _, path in self._steps(stage)[KEPT_STEPS:]:
            path.unlink()

    @in_main
    def save_finished(self, stage: Stage, tree: Tree) -> None:
        """Saves a finished stage for good and drops its checkpoints in training."""
        save_tree(self.finished_path(stage), tree)
        for _, path in self._steps(stage):
            path.unlink()

    @in_main
    def load_training(self, stage: Stage) -> Tree | None:
        """The newest undamaged state of a stage in training, or None: it starts from the beginning."""
        for step, path in self._steps(stage):
            try:
                return load_tree(path)
            except DamagedFile as error:
                _set_aside(path, "damaged")
                self.warn(f"{error}: set aside; falling back to the checkpoint before step {step}")
        return None

    @in_main
    def load_finished(self, agenda: Agenda) -> list[Tree]:
        """The finished stages from the first on, up to one that is absent or damaged.

        Stages behind a damaged one were trained on its features. They are set aside, not deleted.
        """
        trees, damage = self.read_finished(agenda)
        if damage is not None:
            stage, *later = agenda.stages(rows_of(trees))[len(trees) :]
            for path in [path for other in later for path in self._files(other)]:
                _set_aside(path, "stale")  # first: a crash in between must not leave them in use
            _set_aside(self.finished_path(stage), "damaged")
            self.warn(f"{damage}: set aside; going back to the start of {stage.title}, which is trained again")
        return trees

    def read_finished(self, agenda: Agenda) -> tuple[list[Tree], DamagedFile | None]:
        """As `load_finished`, but changes nothing: what could be read, and what ended it if not absence."""
        trees: list[Tree] = []
        while len(trees) < len(stages := agenda.stages(rows_of(trees))):
            try:
                trees.append(load_tree(self.finished_path(stages[len(trees)])))
            except FileNotFoundError:
                break
            except DamagedFile as error:
                return trees, error
        return trees, None

    def finished_path(self, stage: Stage) -> Path:
        return self.folder / f"stage_{stage.index + 1}.safetensors"

    def _files(self, stage: Stage) -> list[Path]:
        return [self.finished_path(stage), *(path for _, path in self._steps(stage))]

    def _steps(self, stage: Stage) -> list[tuple[int, Path]]:
        """Steps and files of a stage in training, newest first."""
        pattern = re.compile(rf"stage_{stage.index + 1}_step_(\d+)\.safetensors")
        found = [(int(m[1]), path) for path in self.folder.glob("stage_*") if (m := pattern.fullmatch(path.name))]
        return sorted(found, reverse=True)


def rows_of(trees: Sequence[Tree]) -> list[Rows]:
    """What finished stages reported."""
    return [tree["rows"] for tree in trees]


def _set_aside(path: Path, reason: str) -> None:
    if path.exists():
        path.rename(path.with_suffix(f".{reason}"))
