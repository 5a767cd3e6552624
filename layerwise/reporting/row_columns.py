"""How the rows of results.json are shown in columns, while a run goes on and when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
"""An entry of `blocks` in results.json."""

Column = tuple[str, Callable[[Row], str]]
"""A heading, and the cell of a row; KeyError where the row has no such figure."""


def score_columns(rows: Sequence[Row]) -> list[Column]:
    """How good depths are, as far as any of them has been measured: accuracies, and errors of reconstructions."""
    columns: list[Column] = [
        ("test error", lambda row: f"{row['reconstruction']['test']['loss']:.4g}"),
        ("train %", lambda row: f"{row['train']['top1']:.2f}"),
        ("validation %", _validation),
        ("test %", lambda row: f"{row['test']['top1']:.2f}"),
        ("top-5 %", lambda row: f"{row['test']['top5']:.2f}"),
        ("ensemble %", lambda row: f"{row['ensemble']['top1']:.2f}"),
    ]
    return [(name, text) for name, text in columns if any(has_figure(text, row) for row in rows)]


def _validation(row: Row) -> str:
    mark = (" *" if row["improved"] else "  ") if "improved" in row else ""
    return f"{row['validation']['top1']:.2f}{mark}"


def has_figure(text: Callable[[Row], str], row: Row) -> bool:
    """Whether a row has what a column shows."""
    try:
        return bool(text(row))
    except KeyError:
        return False
