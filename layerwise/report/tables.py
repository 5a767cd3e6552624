"""Tables for the terminal: the blocks of a run, and the costs of a network."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from layerwise.summary import BlockCost, total_parameters


def results_table(results: dict[str, Any]) -> Table:
    """A row per block: parameters, accuracies, ensemble, seconds."""
    table = Table(title=results["name"], title_justify="left")
    names = ["block", "parameters", "head", "train %", "test %", "top-5 %", "ensemble %", "seconds"]
    if has_validation := any("validation" in row for row in results["blocks"]):
        names.insert(4, "validation %")
    for name in names:
        table.add_column(name, justify="right")
    for row in results["blocks"]:
        cells = [
            str(row["block"]),
            f"{row['parameters']['block']:,}",
            f"{row['parameters']['head']:,}",
            f"{row['train']['top1']:.2f}",
            f"{row['test']['top1']:.2f}",
            f"{row['test']['top5']:.2f}",
            f"{row['ensemble']['top1']:.2f}",
            f"{sum(row['seconds'].values()):.1f}",
        ]
        if has_validation:
            cells.insert(4, f"{row['validation']['top1']:.2f}")
        table.add_row(*cells)
    return table


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
