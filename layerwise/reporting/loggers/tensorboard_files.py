"""The run as event files that `tensorboard --logdir outputs` shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerwise.reporting.loggers.base import Beginning
from layerwise.reporting.loggers.content import (
    block_table,
    leaves,
    new_scores,
    place_of,
    scalars_by_place,
    scores,
    speed,
    summary,
)
from layerwise.reporting.samples import captioned, read_samples

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
STAGES = "stages"
"""The tag of the number of finished stages, which closes what is written of each."""

CELL = 24
"""Pixels of a cell of the confusion matrix."""


class TensorBoardFiles:
    """A `Logger`. Curves are tagged by measure and block (`train/loss/block_2`), over the steps of the whole run."""

    def is_complete(self, folder: Path) -> bool:
        return any(tag.startswith("final/") for tag in _last_events(folder / FOLDER))

    def begin(self, beginning: Beginning) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a while, and is needed here only

        folder = beginning.folder / FOLDER
        self._folder, self._config = beginning.folder, beginning.config
        self._next, self._stages = shown(folder)
        self._step = 0
        self._ends: dict[int, dict[str, Any]] = {}  # by stage, its last line
        # what an earlier process was about to write at that step is written whole, in the place of its parts
        self._writer: SummaryWriter = SummaryWriter(folder, purge_step=self._next)
        if self._next == 0:
            self._writer.add_text("config", _code(beginning.config), 0)
            self._writer.add_text("facts", _code(beginning.facts), 0)
            self._writer.add_text("command", _code(beginning.command), 0)
        for line in beginning.lines:
            self.epoch(line)

    def epoch(self, line: dict[str, Any]) -> None:
        self._step, self._ends[line["stage"]] = line["step"], line
        if self._step < self._next:
            return
        for place, values in scalars_by_place(line).items():
            for name, value in values.items():
                self._writer.add_scalar(f"{name}/{place}", value, self._step)
        for name, value in speed(line).items():
            self._writer.add_scalar(name, value, self._step)

    def stage(self, results: dict[str, Any]) -> None:
        for entry in results["stages"][self._stages :]:
            self._stages = entry["stage"]
            # a stage of another run (plan.reuse) has no lines here
            step = max((line["step"] for stage, line in self._ends.items() if stage <= self._stages), default=0)
            place = place_of(self._ends.get(self._stages, entry))
            for name, value in new_scores(entry, self._ends).items():
                self._writer.add_scalar(f"{name}/{place}", value, step)
            self._writer.add_scalar(STAGES, self._stages, step)  # last: then all before it is there
        self._writer.flush()

    def end(self, results: dict[str, Any] | None) -> None:
        if results is not None:
            self.stage(results)
        if results is not None and results["status"] == "completed":
            self._writer.add_text("results", _markdown(*block_table(results)), self._step)
            for row in results["blocks"]:
                for name, value in scores(row).items():
                    self._writer.add_scalar(f"depth/{name.replace('/', '_')}", value, row["block"])
            classification = results.get("classification") or {}
            matrix = classification.get("confusion_matrix")
            if matrix is not None:
                self._writer.add_image("confusion_matrix", heat_map(matrix), self._step, dataformats="HWC")
            if (samples := read_samples(self._folder)) is not None:
                pictures = np.stack(
                    [captioned(samples, i, classification["classes"]) for i in range(len(samples.images))]
                )
                self._writer.add_images("samples", pictures, self._step, dataformats="NHWC")
            plain = {
                name: value if isinstance(value, bool | int | float | str) else str(value)
                for name, value in leaves(self._config)
                if value is not None
            }
            figures = {f"final/{name}": value for name, value in summary(results).items() if not isinstance(value, str)}
            self._writer.add_hparams(plain, figures, run_name=".", global_step=self._step)
        self._writer.close()

    def abandon(self) -> None:
        """Nothing: what is not written is written by another process."""


def shown(folder: Path) -> tuple[int, int]:
    """What the event files of a folder hold already.

    Returns:
        the first step of which something may be missing, and the number of stages.
    """
    last = _last_events(folder)
    step = max((event.step for event in last.values()), default=0)
    if STAGES not in last:
        return step, 0
    return step + (last[STAGES].step == step), int(last[STAGES].value)


def _last_events(folder: Path) -> dict[str, Any]:
    """By tag, the last scalar in the event files of a folder."""
    if not folder.exists():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 1}).Reload()  # keeps the last of each tag
    return {tag: events.Scalars(tag)[-1] for tag in events.Tags()["scalars"]}


def heat_map(matrix: Sequence[Sequence[int]]) -> npt.NDArray[np.uint8]:
    """A confusion matrix as an image, true classes from top to bottom: the darker, the greater a cell's share of its
    row.

    Returns:
        [cells · CELL, cells · CELL, 3], uint8.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    white, dark = np.array([255.0, 255.0, 255.0]), np.array([8.0, 48.0, 107.0])
    colours = white + share[:, :, None] * (dark - white)
    return np.kron(colours, np.ones((CELL, CELL, 1))).astype(np.uint8)


def _code(tree: Any) -> str:
    """As a block of code of Markdown."""
    return f"```\n{json.dumps(tree, indent=2)}\n```"


def _markdown(columns: list[str], rows: list[list[Any]]) -> str:
    shown = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, ["---:"] * len(columns), *shown])
