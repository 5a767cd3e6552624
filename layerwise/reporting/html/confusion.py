"""Which classes are taken for which: a matrix, or the most frequent mistakes among many classes."""

from __future__ import annotations

from typing import Any

from layerwise.reporting.html.reported_run import ReportedRun
from layerwise.reporting.html.vega import Chart, Rows, Spec, layered, quantity, tooltip
from layerwise.reporting.html.words import samples_of

DRAWN_CLASSES = 40
"""With more classes a confusion matrix is no picture: the most frequent mistakes are shown instead."""

MISTAKES = 20
"""Of them."""

SHORT = 30
"""Letters of all classes together that have place side by side above a matrix, also on a phone."""

WRITTEN_CLASSES = 12
"""With more classes a confusion matrix has no numbers in its cells."""


def confusion(run: ReportedRun, number: int) -> Chart | None:
    """Which classes are taken for which."""
    report = run.results.get("classification", {})
    matrix, classes = report.get("confusion_matrix"), report.get("classes", [])
    if matrix is None:
        return None
    rows: Rows = [
        {"true": classes[i], "predicted": classes[j], "images": count, "share": 100 * count / max(1, sum(counts))}
        for i, counts in enumerate(matrix)
        for j, count in enumerate(counts)
        if count or len(classes) <= WRITTEN_CLASSES
    ]
    off = sorted((row for row in rows if row["true"] != row["predicted"] and row["images"]), key=_most_frequent)
    if len(classes) > DRAWN_CLASSES:
        return _mistakes(run, number, off)
    position = {
        "x": {
            "field": "predicted",
            "type": "nominal",
            "sort": classes,
            "title": "predicted",
            "axis": {"orient": "top"} | ({"labelAngle": 0} if sum(map(len, classes)) <= SHORT else {}),
        },
        "y": {"field": "true", "type": "nominal", "sort": classes, "title": "true class"},
    }
    cell = {
        "mark": {"type": "rect", "cornerRadius": 2},
        "encoding": {
            "color": {"field": "share", "type": "quantitative", "title": "% of the class", "legend": None},
            "tooltip": tooltip(true="true class", predicted="predicted", images="images", share="% of the class"),
        },
    }
    layers: list[Spec] = [cell]
    if len(classes) <= WRITTEN_CLASSES:
        layers.append(
            {
                "transform": [{"filter": "datum.images > 0"}],
                "mark": {"type": "text", "fontSize": 11, "tooltip": None},
                "encoding": {
                    "text": {"field": "images", "type": "quantitative"},
                    "color": {
                        "condition": {"test": "datum.share > 50", "value": "#fff"},
                        "value": {"expr": "inkOnCell"},
                    },
                },
            }
        )
    spec = layered(rows, layers, height=(28 if len(classes) <= WRITTEN_CLASSES else 6) * len(classes))
    return Chart(
        f"confusion-{number}",
        "Confusion matrix",
        f"Rows are true classes, columns what the result predicts of the test {samples_of(run)}.",
        spec | {"encoding": position},
        _mistake_columns(run),
        off,
    )


def _mistakes(run: ReportedRun, number: int, off: Rows) -> Chart | None:
    """The pairs of classes that are mistaken most often."""
    rows = [row | {"pair": f"{row['true']} → {row['predicted']}"} for row in off]
    encoding = {
        "y": {"field": "pair", "type": "nominal", "sort": None, "title": "true class → taken for"},
        "x": quantity("images", f"test {samples_of(run)}") | {"axis": {"tickMinStep": 1, "format": "d"}},
    }
    columns = _mistake_columns(run)
    bars = {"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": encoding}
    wrong = sum(row["images"] for row in off)
    note = f"Of {len(off)} pairs of classes those that are mistaken most often; {wrong} test {samples_of(run)} in all."
    spec = layered(rows[:MISTAKES], [bars], 20 * min(len(rows), MISTAKES))
    return Chart(f"confusion-{number}", "Most frequent mistakes", note, spec, columns, off) if rows else None


def _mistake_columns(run: ReportedRun) -> dict[str, str]:
    return {"true class": "true", "taken for": "predicted", samples_of(run): "images", "% of the class": "share"}


def _most_frequent(row: dict[str, Any]) -> tuple[int, str]:
    return -row["images"], row["true"]
