"""What one sees while a run goes on: a live bar on a terminal, else a plain line per epoch, on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from layerwise.trainer import EpochReport

SECONDS_BETWEEN_LINES = 1.0
"""Epochs that are shorter than this are not all shown; metrics.jsonl has them all."""


class Display:
    """Shows the stages of one run.

    Args:
        enabled: False shows nothing but warnings.
        silent: not even these.
    """

    def __init__(self, enabled: bool, silent: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=silent)
        self.enabled = enabled
        self._stage: _StageView | None = None
        self._epoch_seconds: list[float] = []
        self._last_line = 0.0

    def note(self, text: str) -> None:
        """A line of information."""
        if self.enabled:
            self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """A line that is always shown."""
        self.console.print(f"warning: {text}", markup=False, style="yellow")

    def begin_stage(
        self, title: str, epochs: int, steps: int, first_epoch: int, epochs_left: int, first_step: int = 0
    ) -> None:
        """Opens the bar of a stage.

        Args:
            title: such as `block 2/4`.
            epochs: of the stage.
            steps: of an epoch.
            first_epoch: where it goes on, from 0.
            epochs_left: of the whole run.
            first_step: steps of the first epoch that an earlier process has done.
        """
        live = self.enabled and self.console.is_terminal
        terminal = self.console if live else None
        self._stage = _StageView(title, epochs, steps, first_epoch, epochs_left, first_step, terminal)

    def glance(self, step: int, loss: float) -> None:
        """Moves the bar within an epoch."""
        if self._stage is not None:
            self._stage.glance(step, loss)

    def end_epoch(self, report: EpochReport, held_out: Mapping[str, Mapping[str, float]]) -> None:
        """Says what an epoch gave."""
        assert self._stage is not None
        self._epoch_seconds.append(report.seconds)
        recent = self._epoch_seconds[-5:]
        label = self._stage.label
        left = self._stage.end_epoch(seconds_per_epoch=sum(recent) / len(recent))
        is_last = self._stage.epoch == self._stage.epochs
        if not is_last and time.perf_counter() - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.perf_counter()
        train = f"  train {report.top1[-1]:.2f} %" if report.top1 else ""
        scores = "".join(f"  {split} {_in_words(values)}" for split, values in held_out.items())
        self.note(
            f"{label}  loss {report.loss[-1]:.4f}{train}{scores}  "
            f"lr {report.lr:.4g}  {report.images_per_second:,.0f} img/s  left {left}"
        )

    def end_stage(self) -> None:
        """Closes the bar."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None


class _StageView:
    """Position in a stage, and the bar that shows it where there is a terminal."""

    def __init__(
        self,
        title: str,
        epochs: int,
        steps: int,
        first_epoch: int,
        epochs_left: int,
        first_step: int,
        terminal: Console | None,
    ) -> None:
        self.title, self.epochs, self.steps = title, epochs, steps
        self.epoch, self.epochs_left, self.first_step = first_epoch, epochs_left, first_step
        self.epoch_started = time.perf_counter()
        self.bar: Progress | None = None
        if terminal is not None:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
            )
            self.bar = Progress(*columns, console=terminal, transient=True)
            self.task = self.bar.add_task(self.label, total=steps, figures="")
            self.bar.start()

    @property
    def label(self) -> str:
        return f"{self.title}  epoch {min(self.epoch + 1, self.epochs)}/{self.epochs}"

    def glance(self, step: int, loss: float) -> None:
        if self.bar is not None:
            elapsed = time.perf_counter() - self.epoch_started
            rate = (step - self.first_step) / elapsed
            left = (self.epochs_left * self.steps - step) / rate
            figures = f"loss {loss:.3f}  {rate:.1f} steps/s  left {_duration(left)}"
            self.bar.update(self.task, completed=step, figures=figures)

    def end_epoch(self, seconds_per_epoch: float) -> str:
        """Goes to the next epoch and gives the time left for the run."""
        self.epoch, self.epochs_left = self.epoch + 1, self.epochs_left - 1
        self.epoch_started, self.first_step = time.perf_counter(), 0
        left = _duration(self.epochs_left * seconds_per_epoch)
        if self.bar is not None:
            self.bar.reset(self.task, description=self.label, figures=f"left {left}")
        return left

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _in_words(scores: Mapping[str, float]) -> str:
    """The accuracy, or the error of a reconstruction."""
    return f"{scores['top1']:.2f} %" if "top1" in scores else f"loss {scores['loss']:.4f}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))
