"""Tables for the terminal: the blocks of a run, and the costs of a network."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from layerwise.models.costs import BlockCost, total_parameters
from layerwise.reporting.row_columns import Column, has_figure, score_columns


def results_table(results: dict[str, Any]) -> Table:
    """A row per block: parameters, accuracies, ensemble, seconds; of an autoencoder also its error.

    With a validation split, `*` marks depths that improved on all before.
    """
    table = Table(title=results["name"], title_justify="left")
    rows = results["blocks"]
    columns: list[Column] = [
        ("block", lambda row: str(row["block"])),
        ("parameters", lambda row: f"{row['parameters']['block']:,}"),
        ("head", lambda row: f"{row['parameters']['head']:,}"),
        *score_columns(rows),
        ("seconds", lambda row: f"{sum(row['seconds'].values()):.1f}"),
    ]
    for name, _ in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(text(row) if has_figure(text, row) else UNKNOWN for _, text in columns))
    final, notes = results.get("final"), []
    if final and rows[-1]["block"] != final["block"]:
        notes.append(f"the result is the network of depth {final['block']}, test {final['test_top1']:.2f} %")
    if any(row.get("improved") for row in rows):
        notes.append("* best validation accuracy so far")
    if not all(has_figure(text, row) for row in rows for _, text in columns):
        notes.append(f"{UNKNOWN} no classifier or decoder at that depth gives this figure")
    table.caption = "; ".join(notes) or None
    return table


UNKNOWN = "–"


def costs_table(costs: list[BlockCost], cache_bytes: list[int], title: str) -> Table:
    """A row per block: shape, parameters, multiply-accumulates, activation and cache size."""
    table = Table(title=title, title_justify="left")
    headings = ["block", "output", "parameters", "head", "MMAC", "head MMAC", "activation KB", "cache GB"]
    for name in headings:
        table.add_column(name, justify="right")
    for cost, size in zip(costs, cache_bytes, strict=True):
        table.add_row(
            str(cost.block),
            "×".join(map(str, cost.output_shape)),
            f"{cost.block_parameters:,}",
            f"{cost.head_parameters:,}",
            f"{cost.block_macs / 1e6:,.1f}",
            f"{cost.head_macs / 1e6:,.1f}",
            f"{cost.activation_bytes / 1e3:,.1f}",
            f"{size / 1e9:,.2f}",
        )
    table.caption = f"final network (all blocks and the last head): {total_parameters(costs):,} parameters; per image"
    return table


def show(table: Table) -> None:
    """Prints a table to stdout; wide enough for its columns where stdout is no terminal."""
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)
