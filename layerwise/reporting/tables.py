"""Tables for the terminal: the depths of a run, and what a network costs. They fit the terminal's width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from layerwise.core.measures import ACCURACY, MEASURES, R2, Measure, measure_of
from layerwise.models.costs import BlockCost, total_parameters
from layerwise.runs.run_files import ENDED_EARLY

Row = dict[str, Any]
"""An entry of `blocks` in results.json."""

UNKNOWN = "–"
GAP = 2
"""Spaces between two columns."""

WIDTH_OF_FILES = 120
"""Characters of a line where the output is no terminal."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: its words may stand below each other.
        text: gives the cell of a row; raises KeyError where the row has no such figure.
        spare: where a terminal is too narrow, the column with the highest number goes first; 0 always stays.
    """

    heading: str
    text: Callable[[Any], str]
    spare: int = 0

    def cell(self, row: Any) -> str:
        """The text for a row, or `UNKNOWN`."""
        try:
            return self.text(row)
        except KeyError:
            return UNKNOWN

    def width(self, rows: Sequence[Any], one_line: bool) -> int:
        """Characters that the cells and the heading need.

        Args:
            one_line: the heading takes one line, and not one for each of its words.
        """
        words = [self.heading] if one_line else self.heading.split()
        return max(map(len, [*words, *map(self.cell, rows)]))


def fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[Column]:
    """The columns that fit side by side, in their order."""
    kept = dict(zip(columns, widths, strict=True))
    while sum(kept.values()) + GAP * (len(kept) - 1) > room:
        first = max(kept, key=lambda column: column.spare)
        if first.spare == 0:
            break
        del kept[first]
    return list(kept)


def score_columns(rows: Sequence[Row]) -> list[Column]:
    """How good the depths are: accuracies or R², and reconstruction errors, as far as any depth has them."""
    columns = [Column("test error", lambda row: f"{row['reconstruction']['test']['loss']:.4g}")]
    for measure in MEASURES:
        columns += _columns_of(measure)
    return [column for column in columns if any(column.cell(row) != UNKNOWN for row in rows)]


def _columns_of(measure: Measure) -> list[Column]:
    def of(split: str) -> Callable[[Row], str]:
        return lambda row: measure.number(row[split][measure.name])

    def validation(row: Row) -> str:
        mark = (" *" if row["improved"] else "  ") if "improved" in row else ""
        return of("validation")(row) + mark

    further = {
        ACCURACY: Column("top-5 %", lambda row: f"{row['test']['top5']:.2f}", spare=5),
        R2: Column("test MAE", lambda row: f"{row['test']['mae']:.4g}"),
    }
    return [
        Column(f"train {measure.unit}", of("train"), spare=1),
        Column(f"validation {measure.unit}", validation),
        Column(f"test {measure.unit}", of("test")),
        further[measure],
        Column(f"ensemble {measure.unit}", of("ensemble")),
    ]


def results_table(results: dict[str, Any]) -> Table:
    """A row per block: parameters, accuracies or R², ensemble, seconds; of an autoencoder also its error.

    With a validation split, `*` marks depths that improved on all before.
    """
    rows = results["blocks"]
    columns = [
        Column("block", lambda row: str(row["block"])),
        Column("parameters", lambda row: f"{row['parameters']['block']:,}", spare=3),
        Column("head", lambda row: f"{row['parameters']['head']:,}", spare=4),
        *score_columns(rows),
        Column("seconds", lambda row: f"{sum(row['seconds'].values()):.1f}", spare=2),
    ]
    final, notes = results.get("final") or {}, []
    measure = measure_of(final, "test_") or ACCURACY
    if final and rows[-1]["block"] != final["block"]:
        score = measure.told(final[f"test_{measure.name}"])
        notes.append(f"the result is the network of depth {final['block']}, test {score}")
    if results.get("status") == ENDED_EARLY:
        notes.append(results["error"])
    if any(row.get("improved") for row in rows):
        notes.append(f"* best validation {measure.title} so far")
    if kept := [f"{row['block']}: {row['kept_epoch']}" for row in rows if "kept_epoch" in row]:
        notes.append(f"kept epoch of each depth, by validation: {', '.join(kept)}")
    if worse := [str(row["block"]) for row in rows if row.get("improved_loss") is False]:
        notes.append(f"no better training loss than before at depth {', '.join(worse)}")
    if any(column.cell(row) == UNKNOWN for column in columns for row in rows):
        notes.append(f"{UNKNOWN} no classifier or decoder at that depth gives this figure")
    data = results.get("dataset", "")
    title = results["name"] if data in results["name"] else f"{results['name']} on {data}"
    return _table(title, columns, rows, notes)


def costs_table(costs: Sequence[BlockCost], cache_bytes: Sequence[int], title: str) -> Table:
    """A row per block: shape, parameters, multiply-accumulates, activation and cache size.

    Args:
        costs: of block j at position j−1.
        cache_bytes: size of the cache of block j's output at position j−1.
    """
    columns = [
        Column("block", lambda row: str(row[0].block)),
        Column("output", lambda row: "×".join(map(str, row[0].output_shape))),
        Column("parameters", lambda row: f"{row[0].block_parameters:,}"),
        Column("head", lambda row: f"{row[0].head_parameters:,}", spare=1),
        Column("MMAC", lambda row: f"{row[0].block_macs / 1e6:,.1f}"),
        Column("head MMAC", lambda row: f"{row[0].head_macs / 1e6:,.1f}", spare=2),
        Column("activation KB", lambda row: f"{row[0].activation_bytes / 1e3:,.1f}", spare=3),
        Column("cache GB", lambda row: f"{row[1] / 1e9:,.2f}"),
    ]
    total = f"{total_parameters(list(costs)):,}"
    note = f"final network (all blocks and the last head): {total} parameters; MMAC and sizes are of one image"
    return _table(title, columns, list(zip(costs, cache_bytes, strict=True)), [note])


def _table(title: str, columns: Sequence[Column], rows: Sequence[Any], notes: list[str]) -> Table:
    room = _console().width
    shown = fitting(columns, [column.width(rows, one_line=False) for column in columns], room)
    if left_out := [column.heading for column in columns if column not in shown]:
        notes = [*notes, f"left out of this narrow table: {', '.join(left_out)}"]
    widths = [column.width(rows, one_line=True) for column in shown]
    if sum(widths) + GAP * (len(widths) - 1) > room:
        widths = [column.width(rows, one_line=False) for column in shown]
    table = Table(
        title=Text(title, "bold"),
        title_justify="left",
        caption="; ".join(notes) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
    )
    for column, needed in zip(shown, widths, strict=True):
        table.add_column(column.heading, justify="right", width=needed)
    for row in rows:
        table.add_row(*(column.cell(row) for column in shown))
    return table


def numbers_table(title: str, *headings: str, min_width: int | None = None) -> Table:
    """An empty table whose columns are flush right."""
    table = Table(title=title, title_justify="left", min_width=min_width)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_FILES)


def show(table: Table) -> None:
    """Prints a table to stdout; where stdout is no terminal, wide enough for most columns."""
    console = _console()
    if table.title is not None:
        console.print(table.title, soft_wrap=True)  # Rich would break a long name at the table's width
        table.title = None
    console.print(table)
