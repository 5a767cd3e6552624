"""The plots of how good each depth is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerwise.core.measures import ACCURACY, R2, Measure
from layerwise.reporting.html.paper_figures import paper_figure
from layerwise.reporting.html.reported_run import ReportedRun
from layerwise.reporting.html.vega import (
    BARS,
    BLOCK,
    CURVE,
    Chart,
    Rows,
    Spec,
    colour_of,
    layered,
    plotted,
    quantity,
    tooltip,
)

WRITTEN_CLASSES = 12
"""With more classes a confusion matrix has no numbers in its cells."""


def accuracy_over_depth(runs: Sequence[ReportedRun]) -> Chart | None:
    """Test accuracy of each depth's head and ensemble; a line across for one that has only its end, and the paper's."""
    return _over_depth(runs, ACCURACY, paper_lines(runs))


def r2_over_depth(runs: Sequence[ReportedRun]) -> Chart | None:
    """The same of R², which the paper has none of."""
    return _over_depth(runs, R2, [])


def _over_depth(runs: Sequence[ReportedRun], measure: Measure, references: Rows) -> Chart | None:
    rows: Rows = []
    field, axis = measure.name, f"test {measure.axis}"
    runs = [run for run in runs if run.measure is measure]
    for run in runs:
        for row in run.scored:
            shown = {"head": row["test"][field], "ensemble": row["ensemble"][field]}
            if run.is_single_depth:
                del shown["ensemble"]  # of one head
            rows += [
                {"run": run.label, "block": row["block"], "predictor": what, field: value}
                for what, value in shown.items()
            ]
    if not rows:
        return None
    single = [row for row in rows if row["run"] in {run.label for run in runs if run.is_single_depth}]
    several = len(runs) > 1
    predictor = {"field": "predictor", "type": "nominal", "title": None, "sort": ["head", "ensemble"]}
    dashes = {"scale": {"domain": ["head", "ensemble"], "range": [[1, 0], [5, 4]]}}
    colour = colour_of("run", runs) if several else predictor
    curve = {
        "mark": CURVE,
        "encoding": {
            "x": {**BLOCK, "title": "depth j"},
            "y": quantity(field, axis, zero=False),
            "color": colour,
            "strokeDash": predictor | dashes | {"legend": {"symbolType": "stroke"} if several else None},
            "tooltip": tooltip(run="run", block="depth", predictor="predictor", **{field: axis}),
        },
    }
    layers: list[Spec] = [curve]
    if single and len(rows) > len(single):
        layers.append(
            {
                "data": {"values": single},
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.7},
                "encoding": {"y": {"field": field, "type": "quantitative"}, "color": colour},
            }
        )
    if references:
        layers += _paper_layers(references)
    notes = ["Each depth's own head (solid) and the 2ʲ ensemble of all heads up to it (dashed)."]
    if single and len(rows) > len(single):
        notes.append("A line across: a run with one classifier, at its end.")
    if references:
        notes.append("Dotted: the paper's last head, at its full width, schedule and data.")
    return Chart(
        "accuracy" if measure is ACCURACY else field,
        f"{measure.title.capitalize()} over depth",
        " ".join(notes),
        layered(rows, layers, height=340),
        {"run": "run", "depth": "block", "predictor": "predictor", axis: field},
        rows
        + [
            {"run": f"paper, {row['text']}", "block": "–", "predictor": "head", "top1": row["top1"]}
            for row in references
        ],
    )


def paper_lines(runs: Sequence[ReportedRun]) -> Rows:
    """What the paper reports of networks like these, each once."""
    found = {run.paper: run for run in runs if run.paper is not None}
    return [
        {"text": f"k = {run.config.k}" if len(found) > 1 else "head", "top1": paper_figure(experiment).top1}
        for experiment, run in found.items()
    ]


def _paper_layers(references: Rows) -> list[Spec]:
    rule = {
        "data": {"values": references},
        "mark": {"type": "rule", "strokeDash": [1, 4], "strokeWidth": 1.5, "style": "reference"},
        "encoding": {
            "y": {"field": "top1", "type": "quantitative"},
            "tooltip": tooltip(text="reference", top1="accuracy (%)"),
        },
    }
    highest = max(row["top1"] for row in references)
    figures = ", ".join(f"{row['text'].replace(' ', '')} {row['top1']:.1f}" for row in references)
    words = {
        "data": {"values": [{"top1": highest, "words": f"paper: {figures}"}]},
        "mark": {"type": "text", "align": "left", "baseline": "bottom", "dy": -3, "style": "reference-words"},
        "encoding": {
            "x": {"value": 6},
            "y": {"field": "top1", "type": "quantitative"},
            "text": {"field": "words", "type": "nominal"},
        },
    }
    return [rule, words]


def reconstruction_over_depth(runs: Sequence[ReportedRun]) -> Chart | None:
    """Error of an autoencoder's decoders."""
    rows = [
        {"run": run.label, "block": row["block"], "split": split, "loss": value["loss"]}
        for run in runs
        for row in run.rows
        for split, value in row.get("reconstruction", {}).items()
    ]
    encoding = {
        "x": {**BLOCK, "title": "depth j"},
        "y": quantity("loss", "reconstruction error", zero=False),
        "color": colour_of("run", runs) if len(runs) > 1 else {"field": "split", "type": "nominal"},
        "strokeDash": {"field": "split", "type": "nominal", "title": None},
    }
    columns = {"run": "run", "block": "depth", "split": "split", "loss": "error"}
    note = "Mean error of the decoder at each depth."
    return plotted("reconstruction", "Reconstruction over depth", note, rows, CURVE, encoding, columns, height=300)


def anytime_curve(runs: Sequence[ReportedRun]) -> Chart | None:
    """Accuracy against the cost of an image that leaves at each depth."""
    rows: Rows = []
    for run in runs:
        for row in run.scored if run.anatomy is not None and run.measure is ACCURACY else ():
            macs = macs_of_leaving(run, row["block"])
            rows.append(_leaving(run, "one depth for all", str(row["block"]), macs, row["test"]["top1"]))
        for point in (run.anytime or {}).get("points", ()):
            exits = " or ".join(map(str, point["exits"]))
            rows.append(_leaving(run, "when confident", exits, point["macs"], point["test_top1"]))
    if len(rows) < 2:
        return None
    dash = {"field": "leaves", "type": "nominal", "title": None, "sort": ["one depth for all"]}
    encoding = {
        "x": quantity("mmacs", "multiply-accumulates per image (millions)", zero=False),
        "y": quantity("top1", "test accuracy (%)", zero=False),
        "color": colour_of("run", runs),
        "strokeDash": dash if any(run.anytime for run in runs) else {"value": [1, 0]},
    }
    columns = {"run": "run", "depth": "leaves at depth", "mmacs": "million MACs", "top1": "test accuracy (%)"}
    note = "What an image costs that leaves the network at depth j: its blocks and that depth's head."
    mark = CURVE | {"order": True}
    return plotted("anytime", "Accuracy against cost", note, rows, mark, encoding, columns, height=300)


def macs_of_leaving(run: ReportedRun, depth: int) -> int:
    """Multiply-accumulates of the blocks up to a depth and of its head."""
    assert run.anatomy is not None
    blocks = run.anatomy.costs[:depth]
    return sum(cost.block_macs for cost in blocks) + blocks[-1].head_macs


def _leaving(run: ReportedRun, leaves: str, depth: str, macs: float, top1: float) -> dict[str, Any]:
    return {"run": run.label, "leaves": leaves, "depth": depth, "mmacs": macs / 1e6, "top1": top1}


def ensemble_weights(runs: Sequence[ReportedRun]) -> Chart | None:
    """Share of each depth in the ensemble up to the last."""
    rows: Rows = []
    for depths in dict.fromkeys(tuple(row["block"] for row in run.scored) for run in runs):
        if len(depths) > 1:
            weights = [2.0 ** (depth - depths[-1]) for depth in depths]
            rows += [
                {"ensemble": f"{len(depths)} depths", "block": depth, "share": 100 * weight / sum(weights)}
                for depth, weight in zip(depths, weights, strict=True)
            ]
    several = len({row["ensemble"] for row in rows}) > 1
    colour = {"field": "ensemble", "type": "nominal", "title": None, "scale": {"range": "phase"}}
    encoding = {
        "x": {**BLOCK, "title": "depth j"},
        "xOffset": {"field": "ensemble"},
        "y": quantity("share", "weight (%)"),
        "color": colour | ({} if several else {"legend": None}),
    }
    columns = {"ensemble": "ensemble of", "block": "depth", "share": "weight (%)"}
    note = "Z = Σ 2ʲ zⱼ / Σ 2ʲ: each depth counts twice as much as the one before it."
    return plotted("weights", "Weight of each depth in the ensemble", note, rows, BARS, encoding, columns, height=220)


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
    position = {
        "x": {
            "field": "predicted",
            "type": "nominal",
            "sort": classes,
            "title": "predicted",
            "axis": {"orient": "top"},
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
    off = sorted((row for row in rows if row["true"] != row["predicted"] and row["images"]), key=_most_frequent)
    return Chart(
        f"confusion-{number}",
        "Confusion matrix",
        "Rows are true classes, columns what the result predicts of the test images.",
        spec | {"encoding": position},
        {"true class": "true", "taken for": "predicted", "images": "images", "% of the class": "share"},
        off,
    )


def _most_frequent(row: dict[str, Any]) -> tuple[int, str]:
    return -row["images"], row["true"]
