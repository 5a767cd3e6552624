"""The plots of how good each depth is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerwise.core.measures import ACCURACY, R2, Measure
from layerwise.core.spread import binomial_margin, chance, r2_margin
from layerwise.reporting.html.paper_figures import paper_figure
from layerwise.reporting.html.reported_run import ReportedRun
from layerwise.reporting.html.vega import (
    BARS,
    BLOCK,
    CURVE,
    LEGEND,
    SYMBOLS,
    Chart,
    Rows,
    Spec,
    averaged,
    colour_of,
    groups_of,
    layered,
    plotted,
    quantity,
    spread_columns,
    tooltip,
    with_bands,
)
from layerwise.reporting.html.words import samples_of


def accuracy_over_depth(runs: Sequence[ReportedRun]) -> Chart | None:
    """Test accuracy of each depth's head and ensemble; a line across for one that has only its end, and the paper's."""
    return _over_depth(runs, ACCURACY, paper_lines(runs))


def r2_over_depth(runs: Sequence[ReportedRun]) -> Chart | None:
    """The same of R², which the paper has none of."""
    return _over_depth(runs, R2, [])


def _over_depth(runs: Sequence[ReportedRun], measure: Measure, references: Rows) -> Chart | None:
    field = measure.name
    runs = [run for run in runs if run.measure is measure]
    rows: Rows = []
    many = len(groups_of(runs)) > LEGEND  # then ensembles and lines across would hide the heads
    for run in runs:
        for row in run.scored:
            shown = {"head": row["test"][field], "ensemble": row["ensemble"][field]}
            if run.is_single_depth or many:
                del shown["ensemble"]  # of one head
            point = {"group": run.group, "run": run.label, "block": row["block"]}
            rows += [point | {"predictor": what, field: value} for what, value in shown.items()]
    if not rows:
        return None
    axis = _axis(runs, averaged(rows, field, "block", "predictor"), measure)
    scale = _scale(runs, rows, measure)
    inside = [row for row in references if _fits(row[field], scale)]
    single_depths = {run.group for run in runs if run.is_single_depth}
    means, layers = _curves(runs, rows, field, quantity(field, axis, zero=False) | {"scale": scale})
    across = [row for row in means if row["group"] in single_depths and not many]
    if across:
        layers += _across(across, field, colour_of(runs), is_beside_curves=len(means) > len(across))
    if inside:
        layers += _paper_layers(inside)
    columns = {"group": "run", "block": "depth", "predictor": "predictor", field: f"test {measure.axis}"}
    headings = {heading: name for name, heading in (columns | spread_columns(means)).items()}
    papers = [{"group": f"paper, {row['text']}", "block": "–", "predictor": "head", **row} for row in references]
    return Chart(
        "accuracy" if measure is ACCURACY else field,
        f"{measure.title.capitalize()} over depth",
        _note(means, across, references, inside),
        layered(means, layers, height=340),
        headings,
        means + [row | dict.fromkeys(("std", "n")) for row in papers],
    )


def _curves(runs: Sequence[ReportedRun], rows: Rows, field: str, y: Spec) -> tuple[Rows, list[Spec]]:
    """The lines of heads and ensembles over depth."""
    predictor = {"field": "predictor", "type": "nominal", "title": None, "sort": ["head", "ensemble"]}
    dashes = {"scale": {"domain": ["head", "ensemble"], "range": [[1, 0], [5, 4]]}}
    several = len(groups_of(runs)) > 1
    encoding = {
        "x": {**BLOCK, "title": "depth j"},
        "y": y,
        "color": colour_of(runs) if several else predictor | {"legend": SYMBOLS},
        "strokeDash": predictor | dashes | {"legend": {"symbolType": "stroke"} if several else None},
    }
    means, layers = with_bands(rows, field, ("block", "predictor"), CURVE, encoding)
    names = {"group": "run", "block": "depth", "predictor": "predictor", field: y["title"]} | spread_columns(means)
    layers[-1]["encoding"]["tooltip"] = tooltip(**names)
    return means, layers


def _across(rows: Rows, field: str, colour: Spec, is_beside_curves: bool) -> list[Spec]:
    """Of groups with one head: an error bar, and beside the curves of others a line across with its band."""
    bounds = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}, "color": colour}
    data = {"data": {"values": rows}}
    bar = data | {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {"x": {**BLOCK, "title": "depth j"}, **bounds},
    }
    if not is_beside_curves:
        return [bar]
    line = {"y": {"field": field, "type": "quantitative"}, "color": colour}
    return [
        bar,
        data | {"mark": {"type": "rect", "opacity": 0.1, "tooltip": None}, "encoding": bounds},
        data | {"mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.7}, "encoding": line},
    ]


def _axis(runs: Sequence[ReportedRun], means: Rows, measure: Measure) -> str:
    """`test accuracy (%), n = 10,000, 95 % interval ±0.5`, of the best mean."""
    sizes = {run.tested for run in runs}
    title = f"test {measure.axis}"
    if len(sizes) > 1:
        return title
    (n,) = sizes
    best = max(row[measure.name] for row in means)
    return f"{title}, {chance(best, n) if measure is ACCURACY else f'n = {n:,}'}"


LEAST_MARGINS = 8
"""An axis spans at least as many half widths of the interval of chance: a sample more is no cliff."""


def _scale(runs: Sequence[ReportedRun], rows: Rows, measure: Measure) -> Spec:
    """The y axis's scale: wide enough that chance alone draws no cliff."""
    values, tested = [row[measure.name] for row in rows], min(run.tested for run in runs)
    margin = binomial_margin(max(values), tested) if measure is ACCURACY else r2_margin(max(values), tested)
    middle, half = (min(values) + max(values)) / 2, max((max(values) - min(values)) / 2, LEAST_MARGINS / 2 * margin)
    low, high = middle - 1.1 * half, middle + 1.1 * half
    best = 100.0 if measure is ACCURACY else 1.0
    low = low - max(0.0, high - best)
    domain = [max(0.0, low) if measure is ACCURACY else low, min(best, high)]
    return {"domain": domain, "nice": True, "clamp": True}


def _fits(value: float, scale: Spec) -> bool:
    """Whether a line of the paper can be drawn: beyond the axis it would press our curves together."""
    low, high = scale.get("domain", (value, value))
    return bool(low <= value <= high)


def _note(means: Rows, across: Rows, references: Rows, inside: Rows) -> str:
    notes = ["Each depth's own head (solid)."]
    if any(row["predictor"] == "ensemble" for row in means):
        notes = ["Each depth's own head (solid) and the 2ʲ ensemble of all heads up to it (dashed)."]
    if any(row["n"] > 1 for row in means):
        notes.append("Lines are means over seeds, bands one standard deviation.")
    if across and len(means) > len(across):
        notes.append("A line across: one classifier, at the end.")
    if inside:
        notes.append("Dotted: the paper's last head, at its full width, schedule and data.")
    if far := [row for row in references if row not in inside]:
        figures = ", ".join(f"{row['top1']:.1f} % ({row['text']})" for row in far)
        notes.append(f"Not drawn: the paper's last head reaches {figures} at its full width, schedule and data.")
    return " ".join(notes)


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
        {"group": run.group, "run": run.label, "block": row["block"], "split": split, "loss": value["loss"]}
        for run in runs
        for row in run.rows
        for split, value in row.get("reconstruction", {}).items()
    ]
    if not rows:
        return None
    split = {"field": "split", "type": "nominal", "title": None}
    encoding = {
        "x": {**BLOCK, "title": "depth j"},
        "y": quantity("loss", "reconstruction error", zero=False),
        "color": colour_of(runs) if len(groups_of(runs)) > 1 else split | {"legend": SYMBOLS},
        "strokeDash": split if len(groups_of(runs)) > 1 else split | {"legend": SYMBOLS},
    }
    means, layers = with_bands(rows, "loss", ("block", "split"), CURVE, encoding)
    columns = {"group": "run", "block": "depth", "split": "split", "loss": "error"} | spread_columns(means)
    layers[-1]["encoding"]["tooltip"] = tooltip(**columns)
    headings = {heading: field for field, heading in columns.items()}
    note = "Mean error of the decoder at each depth."
    return Chart(
        "reconstruction", "Reconstruction over depth", note, layered(means, layers, height=300), headings, means
    )


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
    if len({(row["group"], row["leaves"], row["macs"]) for row in rows}) < 2:
        return None
    dash = {"field": "leaves", "type": "nominal", "title": None, "sort": ["one depth for all"]}
    y = quantity("top1", _axis(runs, averaged(rows, "top1", "leaves", "macs"), ACCURACY), zero=False)
    encoding = {
        "x": quantity("macs", "multiply-accumulates", zero=False) | {"axis": {"format": "~s"}},
        "y": y | {"scale": _scale([run for run in runs if run.measure is ACCURACY], rows, ACCURACY)},
        "color": colour_of(runs),
        "strokeDash": dash if any(run.anytime for run in runs) else {"value": [1, 0]},
    }
    means, layers = with_bands(rows, "top1", ("macs", "leaves"), CURVE | {"order": True}, encoding)
    depths = {(row["group"], row["leaves"], row["macs"]): row["depth"] for row in rows}
    means[:] = [row | {"depth": depths[row["group"], row["leaves"], row["macs"]]} for row in means]
    columns = {"group": "run", "depth": "leaves at depth", "macs": "multiply-accumulates", "top1": "test accuracy (%)"}
    columns |= spread_columns(means)
    layers[-1]["encoding"]["tooltip"] = tooltip(**columns)
    note = f"What each of the {samples_of(*runs)} costs that leaves at depth j: its blocks and that depth's head."
    headings = {heading: field for field, heading in columns.items()}
    return Chart("anytime", "Accuracy against cost", note, layered(means, layers, height=340), headings, means)


def macs_of_leaving(run: ReportedRun, depth: int) -> int:
    """Multiply-accumulates of the blocks up to a depth and of its head."""
    assert run.anatomy is not None
    blocks = run.anatomy.costs[:depth]
    return sum(cost.block_macs for cost in blocks) + blocks[-1].head_macs


def _leaving(run: ReportedRun, leaves: str, depth: str, macs: float, top1: float) -> dict[str, Any]:
    return {"group": run.group, "run": run.label, "leaves": leaves, "depth": depth, "macs": macs, "top1": top1}


def ensemble_weights(runs: Sequence[ReportedRun]) -> Chart | None:
    """Share of each depth in the ensemble up to the last; None of a comparison, and of two depths: they are 1 to 2."""
    rows: Rows = []
    if len(groups_of(runs)) > 1:
        return None
    for depths in dict.fromkeys(tuple(row["block"] for row in run.scored) for run in runs):
        if len(depths) > 2:
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
