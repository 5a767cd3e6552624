"""The plots of a report, as Vega-Lite specifications with the table that says the same.

Colours, fonts and sizes are the page's (`assets/page.js`), since they change with its theme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.reporting.html.paper_figures import paper_figure
from layerwise.reporting.html.run_record import RunRecord

Rows = list[dict[str, Any]]
Spec = dict[str, Any]

MOST_POINTS = 200
"""Epochs of a stage that are drawn; of longer ones every so many."""

MOST_ROWS = 40
"""Of a table beside a plot; longer ones end with a note."""

ALONE_ABOVE = 6
"""With more runs, times are shown per run and not per block."""

WRITTEN_CLASSES = 12
"""With more classes a confusion matrix has no numbers in its cells."""


_CURVE: Spec = {"type": "line", "point": {"size": 55, "filled": True}, "strokeWidth": 2.25}
"""A line through a few points that are told apart."""


@dataclass(frozen=True)
class Chart:
    """A plot.

    Attributes:
        id: of its place in the page.
        title: what it shows.
        note: how to read it.
        spec: Vega-Lite; its data are in it.
        columns: of the table, by their headings the field of a row.
        rows: of the table.
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


def all_charts(records: Sequence[RunRecord]) -> list[Chart]:
    """The plots that these runs have data for, in the order of the page."""
    makers: tuple[Callable[[Sequence[RunRecord]], Chart | None], ...] = (
        accuracy_over_depth,
        reconstruction_over_depth,
        anytime_curve,
        loss_curves,
        accuracy_curves,
        ensemble_weights,
        time_per_block,
        memory_per_block,
    )
    return [chart for make in makers if (chart := make(records)) is not None]


def accuracy_over_depth(records: Sequence[RunRecord]) -> Chart | None:
    """Test accuracy of each depth's head and ensemble; a line across for one that has only its end, and the paper's."""
    rows: Rows = []
    for record in records:
        for row in record.scored:
            shown = {"head": row["test"]["top1"], "ensemble": row["ensemble"]["top1"]}
            if record.is_single_depth:
                del shown["ensemble"]  # of one head
            rows += [
                {"run": record.label, "block": row["block"], "predictor": what, "top1": value}
                for what, value in shown.items()
            ]
    if not rows:
        return None
    references = paper_lines(records)
    single = [row for row in rows if row["run"] in {record.label for record in records if record.is_single_depth}]
    several = len(records) > 1
    predictor = {"field": "predictor", "type": "nominal", "title": None, "sort": ["head", "ensemble"]}
    dashes = {"scale": {"domain": ["head", "ensemble"], "range": [[1, 0], [5, 4]]}}
    colour = _colour("run", records) if several else predictor
    curve = {
        "mark": _CURVE,
        "encoding": {
            "x": {**_BLOCK, "title": "depth j"},
            "y": _quantity("top1", "test accuracy (%)", zero=False),
            "color": colour,
            "strokeDash": predictor | dashes | {"legend": {"symbolType": "stroke"} if several else None},
            "tooltip": _tooltip(run="run", block="depth", predictor="predictor", top1="test accuracy (%)"),
        },
    }
    layers: list[Spec] = [curve]
    if single and len(rows) > len(single):
        layers.append(
            {
                "data": {"values": single},
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.7},
                "encoding": {"y": {"field": "top1", "type": "quantitative"}, "color": colour},
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
        "accuracy",
        "Accuracy over depth",
        " ".join(notes),
        _layered(rows, layers, height=340),
        {"run": "run", "depth": "block", "predictor": "predictor", "test accuracy (%)": "top1"},
        rows
        + [
            {"run": f"paper, {row['text']}", "block": "–", "predictor": "head", "top1": row["top1"]}
            for row in references
        ],
    )


def paper_lines(records: Sequence[RunRecord]) -> Rows:
    """What the paper reports of networks like these, each once."""
    found = {record.paper: record for record in records if record.paper is not None}
    return [
        {"text": f"k = {record.config.k}" if len(found) > 1 else "head", "top1": paper_figure(experiment).top1}
        for experiment, record in found.items()
    ]


def _paper_layers(references: Rows) -> list[Spec]:
    rule = {
        "data": {"values": references},
        "mark": {"type": "rule", "strokeDash": [1, 4], "strokeWidth": 1.5, "style": "reference"},
        "encoding": {
            "y": {"field": "top1", "type": "quantitative"},
            "tooltip": _tooltip(text="reference", top1="accuracy (%)"),
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


def reconstruction_over_depth(records: Sequence[RunRecord]) -> Chart | None:
    """Error of an autoencoder's decoders."""
    rows = [
        {"run": record.label, "block": row["block"], "split": split, "loss": value["loss"]}
        for record in records
        for row in record.rows
        for split, value in row.get("reconstruction", {}).items()
    ]
    if not rows:
        return None
    spec = {
        "mark": _CURVE,
        "encoding": {
            "x": {**_BLOCK, "title": "depth j"},
            "y": _quantity("loss", "reconstruction error", zero=False),
            "color": _colour("run", records) if len(records) > 1 else {"field": "split", "type": "nominal"},
            "strokeDash": {"field": "split", "type": "nominal", "title": None},
            "tooltip": _tooltip(run="run", block="depth", split="split", loss="error"),
        },
    }
    return Chart(
        "reconstruction",
        "Reconstruction over depth",
        "Mean error of the decoder at each depth.",
        _layered(rows, [spec], height=300),
        {"run": "run", "depth": "block", "split": "split", "error": "loss"},
        rows,
    )


def anytime_curve(records: Sequence[RunRecord]) -> Chart | None:
    """Accuracy against the cost of an image that leaves at each depth."""
    rows: Rows = []
    for record in records:
        for row in record.scored if record.anatomy is not None else ():
            macs = macs_of_leaving(record, row["block"])
            rows.append(_leaving(record, "one depth for all", str(row["block"]), macs, row["test"]["top1"]))
        for point in (record.anytime or {}).get("points", ()):
            exits = " or ".join(map(str, point["exits"]))
            rows.append(_leaving(record, "when confident", exits, point["macs"], point["test_top1"]))
    if len(rows) < 2:
        return None
    spec = {
        "mark": _CURVE | {"order": True},
        "encoding": {
            "x": _quantity("mmacs", "multiply-accumulates per image (millions)", zero=False),
            "y": _quantity("top1", "test accuracy (%)", zero=False),
            "color": _colour("run", records),
            "strokeDash": {"field": "leaves", "type": "nominal", "title": None, "sort": ["one depth for all"]}
            if any(record.anytime for record in records)
            else {"value": [1, 0]},
            "tooltip": _tooltip(run="run", depth="leaves at depth", mmacs="million MACs", top1="test accuracy (%)"),
        },
    }
    return Chart(
        "anytime",
        "Accuracy against cost",
        "What an image costs that leaves the network at depth j: its blocks and that depth's head.",
        _layered(rows, [spec], height=300),
        {"run": "run", "leaves at depth": "depth", "million MACs": "mmacs", "test accuracy (%)": "top1"},
        rows,
    )


def macs_of_leaving(record: RunRecord, depth: int) -> int:
    """Multiply-accumulates of the blocks up to a depth and of its head."""
    assert record.anatomy is not None
    blocks = record.anatomy.costs[:depth]
    return sum(cost.block_macs for cost in blocks) + blocks[-1].head_macs


def _leaving(record: RunRecord, leaves: str, depth: str, macs: float, top1: float) -> dict[str, Any]:
    return {"run": record.label, "leaves": leaves, "depth": depth, "mmacs": macs / 1e6, "top1": top1}


def loss_curves(records: Sequence[RunRecord]) -> Chart | None:
    """Training loss by epoch."""
    return _training(records, "loss", "loss", "Training loss", "training loss")


def accuracy_curves(records: Sequence[RunRecord]) -> Chart | None:
    """Training accuracy by epoch."""
    return _training(records, "top1", "training", "Training accuracy", "training accuracy (%)")


def _training(records: Sequence[RunRecord], field: str, name: str, title: str, axis: str) -> Chart | None:
    rows = [row for record in records for row in _epochs(record, field)]
    if not rows:
        return None
    several = len(records) > 1
    by_stage = {"field": "stage", "type": "ordinal", "title": "stage"}
    spec = {
        "mark": {"type": "line", "strokeWidth": 1.75, "point": {"size": 14, "filled": True}},
        "encoding": {
            "x": _quantity("epoch", "epochs of the run", zero=False) | {"axis": {"tickMinStep": 1}},
            "y": _quantity("value", axis, zero=False),
            "color": _colour("run", records) if several else by_stage,
            "detail": [{"field": "stage"}, {"field": "block"}],
            "tooltip": _tooltip(run="run", stage="stage", block="head at depth", epoch="epoch", value=axis),
        },
    }
    note = "Each stage begins anew with a fresh head. Mean over an epoch, augmented images."
    columns = {"run": "run", "stage": "stage", "head at depth": "block", "epoch of the run": "epoch", axis: "value"}
    ends = {(row["run"], row["stage"], row["block"]): row for row in rows}  # the table has the last epochs only
    return Chart(f"{name}-curves", title, note, _layered(rows, [spec], height=260), columns, list(ends.values()))


def _epochs(record: RunRecord, field: str) -> Rows:
    """A row per epoch and head, thinned."""
    lengths: dict[int, int] = {}
    for line in record.metrics:
        lengths[line["stage"]] = max(lengths.get(line["stage"], 0), line["epoch"])
    rows: Rows = []
    for line in record.metrics:
        stage, epoch = line["stage"], line["epoch"]
        step = -(-lengths[stage] // MOST_POINTS)
        if epoch % step and epoch != lengths[stage]:
            continue
        before = sum(length for earlier, length in lengths.items() if earlier < stage)
        for head in line.get("heads", [line]):
            if head.get(field) is not None:
                point = {"run": record.label, "stage": stage, "block": head["block"], "epoch": before + epoch}
                rows.append(point | {"value": head[field]})
    return rows


def ensemble_weights(records: Sequence[RunRecord]) -> Chart | None:
    """Share of each depth in the ensemble up to the last."""
    rows: Rows = []
    for depths in dict.fromkeys(tuple(row["block"] for row in record.scored) for record in records):
        if len(depths) > 1:
            weights = [2.0 ** (depth - depths[-1]) for depth in depths]
            rows += [
                {"ensemble": f"{len(depths)} depths", "block": depth, "share": 100 * weight / sum(weights)}
                for depth, weight in zip(depths, weights, strict=True)
            ]
    if not rows:
        return None
    several = len({row["ensemble"] for row in rows}) > 1
    colour = {"field": "ensemble", "type": "nominal", "title": None, "scale": {"range": "phase"}}
    spec = {
        "mark": {"type": "bar", "cornerRadiusEnd": 3},
        "encoding": {
            "x": {**_BLOCK, "title": "depth j"},
            "xOffset": {"field": "ensemble"},
            "y": _quantity("share", "weight (%)"),
            "color": colour | ({} if several else {"legend": None}),
            "tooltip": _tooltip(ensemble="ensemble of", block="depth", share="weight (%)"),
        },
    }
    return Chart(
        "weights",
        "Weight of each depth in the ensemble",
        "Z = Σ 2ʲ zⱼ / Σ 2ʲ: each depth counts twice as much as the one before it.",
        _layered(rows, [spec], height=220),
        {"ensemble of": "ensemble", "depth": "block", "weight (%)": "share"},
        rows,
    )


PHASES = ("train", "advance", "evaluate")


def time_per_block(records: Sequence[RunRecord]) -> Chart | None:
    """Seconds of training, of preparing the block's input, and of evaluating, by the depth at which stages end."""
    alone = len(records) > ALONE_ABOVE
    rows: Rows = []
    for record in records:
        trained: dict[int, list[str]] = {}
        for entry in record.results["stages"]:
            trained.setdefault(entry["block"], []).append(entry["title"])
        for row in record.rows:
            # a stage of several heads stands in the row of each; what another run trained took this one no time
            if row["block"] not in trained or "reused" in row:
                continue
            what = ", ".join(trained[row["block"]])
            place = f"{record.label} · {what}" if len(records) > 1 else what
            rows += [
                {
                    "place": record.label if alone else place,
                    "run": record.label,
                    "trained": what,
                    "phase": phase,
                    "order": PHASES.index(phase),
                    "seconds": seconds,
                }
                for phase in PHASES
                if (seconds := row["seconds"].get(phase)) is not None
            ]
    if not rows:
        return None
    places = list(dict.fromkeys(row["place"] for row in rows))
    spec = {
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "sort": places, "title": None},
            "x": {**_quantity("seconds", "seconds"), "stack": "zero"},
            "color": {
                "field": "phase",
                "type": "nominal",
                "title": None,
                "sort": list(PHASES),
                "scale": {"domain": list(PHASES), "range": "phase"},
            },
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": _tooltip(run="run", trained="trained", phase="phase", seconds="seconds"),
        },
    }
    return Chart(
        "time",
        "Time per block" if not alone else "Time per run",
        "Training; advancing: the block's input is computed by the frozen blocks; evaluating.",
        _layered(rows, [spec], height=24 * len(places)),
        {"run": "run", "trained": "trained", "phase": "phase", "seconds": "seconds"},
        rows,
    )


def memory_per_block(records: Sequence[RunRecord]) -> Chart | None:
    """Peak memory up to the end of each stage."""
    rows = [
        {"run": record.label, "block": row["block"], "memory": row["peak_memory_mb"]}
        for record in records
        for row in record.rows
        if row.get("peak_memory_mb") is not None
    ]
    if not rows:
        return None
    spec: Spec = {
        "mark": {"type": "bar", "cornerRadiusEnd": 3},
        "encoding": {
            "x": {**_BLOCK, "title": "depth j"},
            "xOffset": {"field": "run", "sort": [record.label for record in records]},
            "y": _quantity("memory", "peak memory (MB)"),
            "color": _colour("run", records),
            "tooltip": _tooltip(run="run", block="depth", memory="MB"),
        },
    }
    return Chart(
        "memory",
        "Peak memory",
        "On a GPU of each stage; on a CPU of the whole process up to then, PyTorch and cached features included.",
        _layered(rows, [spec], height=220),
        {"run": "run", "block": "block", "peak memory (MB)": "memory"},
        rows,
    )


def confusion(record: RunRecord, number: int) -> Chart | None:
    """Which classes are taken for which.

    Args:
        record: of the run.
        number: of the run in the report.
    """
    report = record.results.get("classification", {})
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
            "tooltip": _tooltip(true="true class", predicted="predicted", images="images", share="% of the class"),
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
    spec = _layered(rows, layers, height=(28 if len(classes) <= WRITTEN_CLASSES else 6) * len(classes))
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


_BLOCK: Spec = {"field": "block", "type": "ordinal", "axis": {"labelAngle": 0, "grid": False}}


def _quantity(field: str, title: str, zero: bool = True) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero, "nice": True}}


def _colour(field: str, records: Sequence[RunRecord]) -> Spec:
    """A colour for each run, the same in all plots; without a legend where there is one run."""
    labels = [record.label for record in records]
    legend: Any = {"legend": None} if len(records) == 1 else {"title": None, "legend": {"symbolType": "circle"}}
    return {"field": field, "type": "nominal", "scale": {"domain": labels}, "sort": labels, **legend}


def _tooltip(**titles: str) -> list[Spec]:
    numbers = ("top1", "loss", "value", "share", "seconds", "memory", "mmacs")
    return [
        {"field": field, "title": title} | ({"type": "quantitative", "format": ".4~g"} if field in numbers else {})
        for field, title in titles.items()
    ]


def _layered(rows: Iterable[dict[str, Any]], layers: list[Spec], height: Any) -> Spec:
    fit = {"type": "fit-x", "contains": "padding"}
    return {"data": {"values": list(rows)}, "width": "container", "height": height, "autosize": fit, "layer": layers}
