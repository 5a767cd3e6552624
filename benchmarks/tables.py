"""Tables of the measured figures, for the terminal and as a Markdown file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Figures = Mapping[str, Any]


def grid(figures: Figures) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a part's figures: a row per group of figures, a column per name; single ones as one row."""
    groups = {name: value for name, value in figures.items() if isinstance(value, Mapping)}
    single = {name: value for name, value in figures.items() if name not in groups}
    groups |= {"": single} if single else {}
    columns = list(dict.fromkeys(column for values in groups.values() for column in values))
    rows = [[name, *(in_digits(values.get(column)) for column in columns)] for name, values in groups.items()]
    header = ["", *(column.replace("_", " ") for column in columns)]
    if all(row[0] == "" for row in rows):
        return header[1:], [row[1:] for row in rows]
    return header, rows


def in_digits(value: Any) -> str:
    """Three significant digits, and all those before the point."""
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(in_digits, value))
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(title: str, figures: Figures) -> Table:
    """For the terminal."""
    header, rows = grid(figures)
    shown = Table(*header, title=title)
    for row in rows:
        shown.add_row(*row)
    return shown


def markdown(figures: Figures, captions: Mapping[str, str]) -> str:
    """All parts that were measured, a table each, below what they were measured on.

    Args:
        figures: `hardware`, `versions`, and each part's.
    """
    lines = ["# Benchmark", ""]
    for fact in ("hardware", "versions"):
        lines += [", ".join(f"{name} {value}" for name, value in figures[fact].items()) + ".", ""]
    lines += [
        "Speeds drift: only figures of one row compare. `scripts/benchmark.py --help` explains the parts.",
        "",
    ]
    for part in [name for name in figures if name in captions and figures[name]]:
        header, rows = grid(figures[part])
        lines += [f"## {part}", "", captions[part], "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)
