"""What one sees while a run goes on, on stderr.

On a terminal: a live line for the stage that trains, and above it a table that grows by the rows of each
stage that is finished. Elsewhere, as in the log of a SLURM job: a plain line per epoch and per row.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from layerwise.core.measures import measure_of, measured
from layerwise.reporting.tables import Column, Row, fitting, score_columns
from layerwise.training.reports import EpochReport, Glance

SECONDS_BETWEEN_LINES = 1.0
"""Epochs that are shorter than this are not all shown; metrics.jsonl has them all."""

SECONDS_BETWEEN_FRAMES = 0.5
"""The live line is drawn anew after an epoch no more often than this: a frame takes milliseconds."""

BARS = (24, 12)
"""Widths of the live line's bar, the first that fits; so it does not change with each figure beside it."""


class Display:
    """Shows the stages of one run.

    Args:
        enabled: False shows nothing but warnings.
        silent: not even these.
    """

    def __init__(self, enabled: bool, silent: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=silent)
        self.enabled = enabled and not silent
        self._stage: _StageView | None = None
        self._headings: list[str] = []  # of the rows that were shown last
        self._last_line = 0.0

    def note(self, text: str) -> None:
        """A line of information."""
        if self.enabled:
            self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that is always shown."""
        self.console.print(f"warning: {text}", markup=False, style="yellow", soft_wrap=True)

    def begin_stage(self, title: str, epochs: int, steps: int, first_epoch: int, epochs_left: int) -> None:
        """Opens the live line of a stage.

        Args:
            title: such as `block 2/4`.
            epochs: of the stage.
            steps: of an epoch.
            first_epoch: where it goes on, from 0.
            epochs_left: of the whole run.
        """
        self._stage = _StageView(title, epochs, steps, first_epoch, epochs_left, self._live_line())

    def glance(self, seen: Glance) -> None:
        """Moves the live line within an epoch."""
        if self._stage is not None:
            self._stage.glance(seen)

    def end_epoch(self, report: EpochReport, held_out: Mapping[str, Mapping[str, float]]) -> None:
        """Says what an epoch gave.

        Args:
            held_out: what `score_now` gave of the held-out splits; perhaps nothing.
        """
        assert self._stage is not None
        text = self._stage.end_epoch(report, held_out)
        is_last = self._stage.epoch == self._stage.epochs
        if self._stage.line is None and (is_last or time.perf_counter() - self._last_line >= SECONDS_BETWEEN_LINES):
            self._last_line = time.perf_counter()
            self.note(text)

    def end_stage(self) -> None:
        """Closes the live line."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    @contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """A live line that says what goes on, where there is a terminal."""
        line = self._live_line()
        try:
            if line is not None:
                line.draw(text, 1.0, "")
            yield
        finally:
            if line is not None:
                line.close()

    def show_rows(self, title: str, rows: Sequence[Row]) -> None:
        """What a finished stage gave: more rows of the table on a terminal, elsewhere a line each.

        Args:
            title: of the stage, such as `block 2`.
            rows: of results.json, which `run_stage` makes.
        """
        if not self.enabled:
            return
        columns = columns_of(title, rows)
        if self.console.is_terminal:
            columns = fitting(columns, widths_of(columns), self.console.width)
            headings = [column.heading for column in columns]
            if headings != self._headings:
                self._headings = headings
                self.console.print(in_columns(columns, headings), style="bold", soft_wrap=True)
            for row in rows:
                self.console.print(in_columns(columns, [column.cell(row) for column in columns]), soft_wrap=True)
        else:
            for row in rows:
                figures = "  ".join(in_words(column.heading, column.cell(row)) for column in columns[1:])
                self.note(f"{title} finished:  {figures}")
        if busy := utilisation(rows[0]):
            self.note(busy)

    def _live_line(self) -> _LiveLine | None:
        return _LiveLine(self.console) if self.enabled and self.console.is_terminal else None


def columns_of(title: str, rows: Sequence[Row]) -> list[Column]:
    """What is shown of the rows of a stage that has just finished."""
    return [
        Column("trained", lambda row: title),
        Column("depth", lambda row: str(row["block"])),
        *score_columns(rows),
        Column("images/s", lambda row: f"{row['images_per_second']:,.0f}", spare=4),
        Column("seconds", lambda row: f"{sum(row['seconds'].values()):.1f}", spare=2),
    ]


def widths_of(columns: Sequence[Column]) -> list[int]:
    """Characters of each column, the same for all stages; together at most 80 where no samples are held out."""
    first, *rest = (max(len(column.heading), 7) for column in columns)
    return [first + 6, *rest]


def in_columns(columns: Sequence[Column], cells: Sequence[str]) -> str:
    """A line of the table."""
    first, *rest = widths_of(columns)
    return "  ".join([f"{cells[0]:<{first}}", *(f"{c:>{w}}" for c, w in zip(cells[1:], rest, strict=True))])


def in_words(heading: str, cell: str) -> str:
    """`test 99.17 %` of the column `test %`, `depth 2` of the column `depth`."""
    return f"{heading.removesuffix('%')}{cell} %" if heading.endswith("%") else f"{heading} {cell}"


def utilisation(row: Row) -> str:
    """How busy each process of `distributed.parallel=blocks` was; empty of other runs."""
    parts = []
    for process in row.get("processes", ()):
        first, last = process["blocks"]
        blocks = f"block {first}" if first == last else f"blocks {first}–{last}"
        parts.append(f"{blocks} {100 * process['utilisation']:.0f} %")
    return f"time that each process computed and did not wait for another: {', '.join(parts)}" if parts else ""


class _StageView:
    """Position in a stage, what is said of it, and the live line that shows it where there is a terminal."""

    def __init__(
        self, title: str, epochs: int, steps: int, first_epoch: int, epochs_left: int, line: _LiveLine | None
    ) -> None:
        self.title, self.epochs, self.steps = title, epochs, steps
        self.epoch, self.epochs_left = first_epoch, epochs_left
        self.line = line
        self.epoch_seconds: list[float] = []
        self.held_out = ""  # the last scores, which stay in the live line until there are others
        if line is not None:
            line.draw(self.label, self.epoch / epochs, "")

    @property
    def label(self) -> str:
        return f"{self.title}  epoch {min(self.epoch + 1, self.epochs)}/{self.epochs}"

    def glance(self, seen: Glance) -> None:
        if self.line is None:
            return
        fraction = seen.steps / self.steps
        left = self.left(seen.seconds / fraction, fraction)
        figures = f"{_quality(seen.scores)}{self.held_out}  {seen.images_per_second:,.0f} images/s  {left}"
        self.line.draw(self.label, (self.epoch + fraction) / self.epochs, figures)

    def end_epoch(self, report: EpochReport, held_out: Mapping[str, Mapping[str, float]]) -> str:
        """Goes to the next epoch, and gives a line about this one."""
        label = self.label
        self.epoch, self.epochs_left = self.epoch + 1, self.epochs_left - 1
        self.epoch_seconds = [*self.epoch_seconds[-4:], report.seconds]
        left = self.left(sum(self.epoch_seconds) / len(self.epoch_seconds))
        scores = "".join(f"  {split} {measured(values)}" for split, values in held_out.items())
        self.held_out = scores or self.held_out
        quality = _quality(report.scores[-1])
        rate = f"{report.images_per_second:,.0f} images/s"
        if self.line is not None and self.line.is_due():
            self.line.draw(self.label, self.epoch / self.epochs, f"{quality}{self.held_out}  {rate}  {left}")
        return f"{label}  {quality}{scores}  lr {report.lr:.4g}  {rate}  {left}"

    def left(self, seconds_per_epoch: float, done: float = 0.0) -> str:
        """Time left for the stage and for the run, whose later stages are taken to be as quick as this one."""
        stage = _duration((self.epochs - self.epoch - done) * seconds_per_epoch)
        return f"left {stage} (run {_duration((self.epochs_left - done) * seconds_per_epoch)})"

    def close(self) -> None:
        if self.line is not None:
            self.line.close()


class _LiveLine:
    """A line at the bottom of the terminal; what else is printed appears above it.

    It is drawn only when asked to, so that no thread takes time from the training.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.drawn = 0.0
        own_stdout = sys.stdout.isatty()  # else what is printed goes to a file, and has to stay there
        self.live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=own_stdout)
        self.live.start()

    def is_due(self) -> bool:
        """Whether the last frame is old enough for another one."""
        return time.perf_counter() - self.drawn >= SECONDS_BETWEEN_FRAMES

    def draw(self, label: str, part: float, figures: str) -> None:
        """Args: label: what goes on. part: of it that is done, 0 … 1. figures: about it."""
        self.live.update(frame(label, part, figures, self.console.width), refresh=True)
        self.drawn = time.perf_counter()

    def close(self) -> None:
        self.live.stop()


def frame(label: str, part: float, figures: str, width: int) -> RenderableType:
    """Label, bar and figures side by side; on a narrow terminal the figures stand below.

    Args:
        part: of it that is done, 0 … 1.
    """
    room = width - len(label) - len(figures) - 3
    narrow = room < BARS[-1]
    bar = next((size for size in BARS if size <= room), BARS[-1])
    line: list[RenderableType] = [Text(label, "bold"), ProgressBar(total=1.0, completed=part, width=bar)]
    if not narrow:
        return _in_one_line([*line, Text(figures)])
    return Group(_in_one_line(line), Text(figures, no_wrap=True, overflow="ellipsis"))


def _in_one_line(parts: Sequence[RenderableType]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for _ in parts:
        grid.add_column(no_wrap=True)
    grid.add_row(*parts)
    return grid


def _quality(scores: Mapping[str, float]) -> str:
    return f"loss {scores['loss']:.4f}" + (f"  train {measured(scores)}" if measure_of(scores) else "")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))
