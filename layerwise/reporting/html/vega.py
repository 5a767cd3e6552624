"""A plot of a report as a Vega-Lite specification, with the table that says the same.

Colours, fonts and sizes are the page's (`assets/page.js`), since they change with its theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.core.spread import spread
from layerwise.reporting.html.reported_run import ReportedRun

Rows = list[dict[str, Any]]
Spec = dict[str, Any]

MOST_ROWS = 40
"""Rows of the table beside a plot; a longer table ends with a note."""

CURVE: Spec = {"type": "line", "point": {"size": 55, "filled": True}, "strokeWidth": 2.25}
"""The mark of a line through a few points that are told apart."""

BARS: Spec = {"type": "bar", "cornerRadiusEnd": 3}
"""The mark of upright bars."""

SYMBOLS: Spec = {"symbolType": "circle", "symbolOpacity": 1}
"""Of a legend of colours, also where a band comes first, which is pale."""

SINGLE = "single"
"""Name of the layers of single runs, which the page's script leaves out until they are asked for."""

LEGEND = 12
"""Groups that a legend names; the colours of more are those of the table of runs."""

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


def averaged(rows: Rows, value: str, *by: str) -> Rows:
    """A row for each group and each combination of the fields `by`.

    Beside the mean it has `n`, the sample standard deviation `std`, and the band from `low` to `high` of one deviation.
    """
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in ("group", *by)), []).append(row[value])
    means = []
    for place, values in found.items():
        mean, std = (of := spread(values))["mean"], of["std"]
        band = {"low": mean - (std or 0), "high": mean + (std or 0), "std": std, "n": len(values)}
        means.append(dict(zip(("group", *by), place, strict=True)) | {value: mean} | band)
    return means


def with_bands(rows: Rows, value: str, by: Sequence[str], mark: Spec, encoding: Spec) -> tuple[Rows, list[Spec]]:
    """The means of groups, and layers that draw them: lines, bands of one deviation, and single runs on demand.

    Args:
        by: fields beside the group that tell points apart; the first is the x axis.
        encoding: of the line of the means.
    """
    means = averaged(rows, value, *by)
    several = {row["group"] for row in means if row["n"] > 1}
    layers: list[Spec] = []
    if several:
        detail = [{"field": name} for name in by[1:]]
        place = {name: encoding[name] for name in ("x", "color") if name in encoding}
        y = encoding["y"]
        named = tooltip(run="run", **{value: value})
        band = {"y": y | {"field": "low"}, "y2": {"field": "high"}, "detail": detail}
        layers.append(
            {"data": {"values": [row for row in means if row["group"] in several]}}
            | {
                "mark": {"type": "area", "opacity": 0.15, "tooltip": None},
                "encoding": place | band,
            }
        )
        layers.append(
            {
                "data": {"values": [row for row in rows if row["group"] in several]},
                "name": SINGLE,
                "mark": {"type": "line", "strokeWidth": 0.8, "opacity": 0.7, "point": {"size": 12}},
                "encoding": place | {"y": y, "detail": [*detail, {"field": "run"}], "tooltip": named},
            }
        )
    return means, [*layers, {"mark": mark, "encoding": encoding}]


def spread_columns(means: Rows) -> dict[str, str]:
    """Columns of deviation and number of runs, where any group has several."""
    return {"std": "± deviation", "n": "runs"} if any(row["n"] > 1 for row in means) else {}


def groups_of(runs: Sequence[ReportedRun]) -> list[str]:
    """The labels of the groups in their order."""
    return list(dict.fromkeys(run.group for run in runs))


def colour_of(runs: Sequence[ReportedRun]) -> Spec:
    """A colour for each group, the same in all plots; without a legend where there is one, or too many for it."""
    labels = groups_of(runs)
    legend: Any = {"legend": None} if len(labels) == 1 or len(labels) > LEGEND else {"title": None, "legend": SYMBOLS}
    return {"field": "group", "type": "nominal", "scale": {"domain": labels}, "sort": labels, **legend}


def tooltip(**titles: str) -> list[Spec]:
    numbers = ("top1", "r2", "loss", "value", "share", "seconds", "memory", "std")
    forms = dict.fromkeys(numbers, ".4~g") | {"macs": ".3~s"}
    return [
        {"field": field, "title": title} | ({"type": "quantitative", "format": forms[field]} if field in forms else {})
        for field, title in titles.items()
    ]


def layered(rows: Iterable[dict[str, Any]], layers: list[Spec], height: Any) -> Spec:
    fit = {"type": "fit-x", "contains": "padding"}
    return {"data": {"values": list(rows)}, "width": "container", "height": height, "autosize": fit, "layer": layers}
