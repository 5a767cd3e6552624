"""Reads what loggers wrote, and steps into runs that log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerwise.reporting.loggers.base import Loggers
from layerwise.runs.metrics import read_lines

OFFLINE = {"logger": "wandb", "logger.wandb.mode": "offline"}


def at_epoch(monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[Loggers], object]) -> None:
    """Does something before an epoch of the run is logged, counted from 1."""
    epoch, seen = Loggers.epoch, []

    def watched(self: Loggers, line: dict[str, Any]) -> None:
        seen.append(line)
        if len(seen) == number:
            do(self)
        epoch(self, line)

    monkeypatch.setattr(Loggers, "epoch", watched)


def tensorboard_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def assert_history_is_that_of_the_files(rows: list[dict[str, Any]], folder: Path) -> None:
    epochs = [row for row in rows if "epoch" in row]
    lines = read_lines(folder / "metrics.jsonl")
    for name, key in (("step", "step"), ("stage", "stage"), ("block", "block"), ("train/loss", "loss"), ("lr", "lr")):
        assert [row[name] for row in epochs] == pytest.approx([line[key] for line in lines])
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert len({row["step"] for row in epochs}) == len(epochs)
