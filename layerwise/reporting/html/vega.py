"""A plot of a report as a Vega-Lite specification, with the table that says the same.

Colours, fonts and sizes are the page's (`assets/page.js`), since they change with its theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.reporting.html.reported_run import ReportedRun

Rows = list[dict[str, Any]]
Spec = dict[str, Any]

MOST_ROWS = 40
"""Rows of the table beside a plot; a longer table ends with a note."""

CURVE: Spec = {"type": "line", "point": {"size": 55, "filled": True}, "strokeWidth": 2.25}
"""The mark of a line through a few points that are told apart."""

BARS: Spec = {"type": "bar", "cornerRadiusEnd": 3}
"""The mark of upright bars."""

BLOCK: Spec = {"field": "block", "type": "ordinal", "axis": {"labelAngle": 0, "grid": False}}
"""The x axis of a plot over depth."""


@dataclass(frozen=True)
class Chart:
    """A plot.

    Attributes:
        spec: Vega-Lite; its data are in it.
        columns: of the table, by their headings the field of a row.
    """

    id: str
    title: str
    note: str
    spec: Spec
    columns: dict[str, str]
    rows: Rows

    @property
    def shown_rows(self) -> Rows:
        """Those that the table has place for."""
        return self.rows[:MOST_ROWS]


def plotted(
    name: str, title: str, note: str, rows: Rows, mark: Spec, encoding: Spec, columns: dict[str, str], height: int
) -> Chart | None:
    """A plot of one layer; None where there is nothing to draw.

    Args:
        columns: headings of fields, for the tooltip and the table.
    """
    layer = {"mark": mark, "encoding": encoding | {"tooltip": tooltip(**columns)}}
    headings = {heading: field for field, heading in columns.items()}
    return Chart(name, title, note, layered(rows, [layer], height), headings, rows) if rows else None


def quantity(field: str, title: str, zero: bool = True) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero, "nice": True}}


def colour_of(field: str, runs: Sequence[ReportedRun]) -> Spec:
    """A colour for each run, the same in all plots; without a legend where there is one run."""
    labels = [run.label for run in runs]
    legend: Any = {"legend": None} if len(runs) == 1 else {"title": None, "legend": {"symbolType": "circle"}}
    return {"field": field, "type": "nominal", "scale": {"domain": labels}, "sort": labels, **legend}


def tooltip(**titles: str) -> list[Spec]:
    numbers = ("top1", "r2", "loss", "value", "share", "seconds", "memory", "mmacs")
    return [
        {"field": field, "title": title} | ({"type": "quantitative", "format": ".4~g"} if field in numbers else {})
        for field, title in titles.items()
    ]


def layered(rows: Iterable[dict[str, Any]], layers: list[Spec], height: Any) -> Spec:
    fit = {"type": "fit-x", "contains": "padding"}
    return {"data": {"values": list(rows)}, "width": "container", "height": height, "autosize": fit, "layer": layers}
