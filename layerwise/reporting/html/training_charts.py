"""The plots of the training: its curves, and what each stage cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from layerwise.core.types import Target
from layerwise.reporting.html.reported_run import ReportedRun
from layerwise.reporting.html.vega import (
    BARS,
    BLOCK,
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
from layerwise.reporting.html.words import beginning_of_stages

MOST_POINTS = 200
"""Epochs of a stage that are drawn; a longer stage is thinned to this number."""

ALONE_ABOVE = 6
"""With more groups than this, times are shown per group and not per block."""

EPOCHS: Spec = {"type": "line", "strokeWidth": 1.75, "point": {"size": 14, "filled": True}}
"""The mark of a line over epochs."""


def loss_curves(runs: Sequence[ReportedRun]) -> Chart | None:
    """Training loss by epoch, of what predicts labels."""
    return _training(runs, "loss", "loss", "Training loss", "training loss")


def reconstruction_curves(runs: Sequence[ReportedRun]) -> Chart | None:
    """The same of the decoders of an autoencoder, whose error has another unit."""
    title = "Reconstruction error in training"
    return _training(runs, "loss", "reconstruction", title, "reconstruction error", target="inputs")


def accuracy_curves(runs: Sequence[ReportedRun]) -> Chart | None:
    """Training accuracy by epoch."""
    return _training(runs, "top1", "training", "Training accuracy", "training accuracy (%)")


def r2_curves(runs: Sequence[ReportedRun]) -> Chart | None:
    """Training R² by epoch."""
    return _training(runs, "r2", "training-r2", "Training R²", "training R²")


def _training(
    runs: Sequence[ReportedRun], field: str, name: str, title: str, axis: str, target: Target = "labels"
) -> Chart | None:
    rows = [row for run in runs for row in _epochs(run, field, target)]
    if not rows:
        return None
    several, images = len(groups_of(runs)) > 1, ", augmented images" if any(run.spec.has_images for run in runs) else ""
    stages = sorted({line["stage"] for run in runs for line in run.metrics})  # one colour in all plots of a run
    by_stage = {"field": "stage", "type": "ordinal", "title": "stage", "legend": SYMBOLS, "scale": {"domain": stages}}
    encoding = {
        "x": _epoch_axis(runs),
        "y": quantity("value", axis, zero=False),
        "color": colour_of(runs) if several else by_stage,
        "detail": [{"field": "stage"}, {"field": "block"}],
    }
    means, layers = with_bands(rows, "value", ("epoch", "stage", "block"), EPOCHS, encoding)
    columns = {"group": "run", "stage": "stage", "block": "head at depth", "epoch": "epoch of the run", "value": axis}
    columns |= spread_columns(means)
    layers[-1]["encoding"]["tooltip"] = tooltip(**columns)
    note = f"{beginning_of_stages(*runs)}Mean over an epoch{images}."
    if any("heads" in line for run in runs for line in run.metrics):
        note += " Heads that are trained at once have a line each."
    ends = {(row["group"], row["stage"], row["block"]): row for row in means}  # the table has the last epochs only
    headings = {heading: field for field, heading in columns.items()}
    return Chart(f"{name}-curves", title, note, layered(means, layers, height=260), headings, list(ends.values()))


def _epoch_axis(runs: Sequence[ReportedRun]) -> Spec:
    """Epochs of whole runs, so that all plots have one axis; only whole numbers are written."""
    last = max((epoch for run in runs for epoch, _ in _thinned(run)), default=1)
    axis = {"labelExpr": "datum.value % 1 ? '' : format(datum.value, ',')", "tickMinStep": 1}
    scale = {"domain": [1, max(2, last)], "nice": False}
    return quantity("epoch", "epochs of the run") | {"axis": axis, "scale": scale}


def _epochs(run: ReportedRun, field: str, target: Target) -> Rows:
    """A row per epoch and head, thinned."""
    rows: Rows = []
    for epoch, line in _thinned(run):
        if line.get("target", "labels") != target:
            continue
        for head in line.get("heads", [line]):
            if head.get(field) is not None:
                point = {
                    "group": run.group,
                    "run": run.label,
                    "stage": line["stage"],
                    "block": head["block"],
                    "epoch": epoch,
                }
                rows.append(point | {"value": head[field]})
    return rows


def _thinned(run: ReportedRun) -> Iterator[tuple[int, dict[str, Any]]]:
    """At most `MOST_POINTS` epochs of each stage, each with its number in the run."""
    lengths: dict[int, int] = {}
    for line in run.metrics:
        lengths[line["stage"]] = max(lengths.get(line["stage"], 0), line["epoch"])
    for line in run.metrics:
        stage, epoch = line["stage"], line["epoch"]
        step = -(-lengths[stage] // MOST_POINTS)
        if epoch % step and epoch != lengths[stage]:
            continue
        yield epoch + sum(length for earlier, length in lengths.items() if earlier < stage), line


def gradient_norms(runs: Sequence[ReportedRun]) -> Chart | None:
    """Norm of the gradient of each block and head by epoch; None where no run has measured it."""
    several = len(groups_of(runs)) > 1
    rows: Rows = []
    for run in runs:
        for epoch, line in _thinned(run):
            for part, norm in line.get("gradients", {}).items():
                place = f"{run.group} · {part}" if several else part
                point = {"place": place, "group": run.group, "run": run.label, "part": part, "stage": line["stage"]}
                rows.append(point | {"epoch": epoch, "value": norm})
    if not rows:
        return None
    encoding = {
        "x": _epoch_axis(runs),
        "y": {**quantity("value", "norm of the gradient", zero=False), "scale": {"type": "log"}},
        "color": {"field": "place", "type": "nominal", "title": None, "sort": None},
        "detail": [{"field": "stage"}],
    }
    means = averaged(rows, "value", "epoch", "place", "part", "stage")
    columns = {"group": "run", "part": "of", "stage": "stage", "epoch": "epoch of the run", "value": "norm"}
    note = "Mean over the steps of an epoch, before any clipping. End to end the first blocks have the smallest."
    columns |= spread_columns(means)
    return plotted("gradients", "Gradients", note, means, EPOCHS, encoding, columns, 260)


LINE, LETTERS = 13, 26
"""Pixels of a line of the names beside bars, and letters in it: as many as a phone has place for."""

MOST_BARS = 20
"""In a plot: it fits a page of paper."""

PHASES = ("train", "advance", "evaluate")


def time_per_block(runs: Sequence[ReportedRun]) -> Chart | None:
    """Seconds of training, of preparing the block's input, and of evaluating, by the depth at which stages end."""
    alone = len(groups_of(runs)) > ALONE_ABOVE
    rows = [
        point | {"phase": phase, "order": PHASES.index(phase), "seconds": seconds}
        for row, point in _trained_rows(runs, alone)
        for phase in PHASES
        if (seconds := row["seconds"].get(phase)) is not None
    ]
    title = "Time per run" if alone else "Time per block"
    note = "Training; advancing: the block's input is computed by the frozen blocks; evaluating."
    return _stacked("time", title, note, rows, PHASES, "phase", quantity("seconds", "seconds"))


TRAINING, STORED = ("parameters", "activations"), ("cache", "data")
"""Parts of `memory_mb` in results.json: what training steps need, and what lies beside it."""


def memory(runs: Sequence[ReportedRun]) -> Chart | None:
    """What training needs of memory: of one configuration by block, of several of the block that needs most."""
    rows = _memory_rows(runs, TRAINING)
    if not rows:
        return _peaks(runs)
    note = "Of the block that needs most. " if len(groups_of(runs)) > 1 else ""
    note += (
        "Parameters with their gradients and the optimiser's state; activations: what else the steps after a stage's "
    )
    note += f"first take at their peak, workspace included.{_against_end_to_end(runs, rows)}"
    x = quantity("memory", "memory (MiB)")
    return _stacked("memory", "Memory of training", note, rows, TRAINING, "part", x)


def storage(runs: Sequence[ReportedRun]) -> Chart | None:
    """What lies in memory beside it."""
    rows = _memory_rows(runs, STORED)
    note = "Cached outputs of frozen blocks, which cache=none recomputes instead, and the samples."
    x = quantity("memory", "memory (MiB)")
    return _stacked("storage", "Features and samples in memory", note, rows, STORED, "part", x)


def training_memory(row: dict[str, Any]) -> float:
    """MiB of parameters and activations of a row of the results that has `memory_mb`."""
    return float(sum(row["memory_mb"][part] for part in TRAINING))


def _memory_rows(runs: Sequence[ReportedRun], parts: Sequence[str]) -> Rows:
    several = len(groups_of(runs)) > 1
    rows: Rows = []
    for run in runs:
        found = [(row, point) for row, point in _trained_rows([run], several) if "memory_mb" in row]
        if several and found:
            row, point = max(found, key=lambda entry: training_memory(entry[0]))
            found = [(row, point | {"place": run.group, "trained": "largest"})]  # seeds may differ in which block it is
        rows += [
            point | {"part": part, "order": i, "memory": row["memory_mb"][part]}
            for row, point in found
            for i, part in enumerate(parts)
        ]
    return rows


def _against_end_to_end(runs: Sequence[ReportedRun], rows: Rows) -> str:
    """` greedy: 0.72 × the memory of end to end, 0.51 × its activations.`; empty without a pair to compare."""
    joint = {run.group for run in runs if run.config.plan.whole}
    means = averaged(rows, "memory", "part")
    total = {group: sum(row["memory"] for row in means if row["group"] == group) for group in groups_of(runs)}
    kept = {row["group"]: row["memory"] for row in means if row["part"] == "activations"}
    if len(joint) != 1 or len(kept) != 2 or not all(kept.values()):
        return ""
    (whole,), (other,) = joint, kept.keys() - joint
    return (
        f" {other}: {total[other] / total[whole]:.2f} × the memory of {whole}, "
        f"{kept[other] / kept[whole]:.2f} × its activations."
    )


def _trained_rows(runs: Sequence[ReportedRun], alone: bool) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of depths at which stages end, each with its place in a plot.

    Args:
        alone: a run has one place, and not one for each depth.
    """
    groups = groups_of(runs)
    for run in runs:
        trained: dict[int, list[str]] = {}
        for entry in run.results["stages"]:
            trained.setdefault(entry["block"], []).append(entry["title"])
        for row in run.rows:
            # a stage of several heads stands in the row of each; what another run trained took this one no time
            if row["block"] not in trained or "reused" in row:
                continue
            what = ", ".join(trained[row["block"]])
            whole = alone or len(run.results["stages"]) == 1  # needs no word but the group's
            place = what if len(groups) == 1 else run.group if whole else f"{run.group} · {what}"
            yield row, {"group": run.group, "place": place, "trained": what}


def _stacked(name: str, title: str, note: str, rows: Rows, kinds: Sequence[str], kind: str, x: Spec) -> Chart | None:
    """Bars of the means of groups, each of several kinds of a cost."""
    cost = x["field"]
    rows = [row | {"place": _broken(row["place"])} for row in rows]
    means = averaged(rows, cost, "place", "trained", kind, "order")
    places, left = _largest(means, cost)
    note += f" Of {left + len(places)} bars the {len(places)} longest." if left else ""
    means = [row for row in means if row["place"] in places]
    counts = {place.count("\n") for place in places}  # long names are broken, and not cut
    offsets = [{"test": rf"length(split(datum.label, '\n')) == {n + 1}", "value": -LINE * n / 2} for n in counts if n]
    names = {"labelExpr": r"split(datum.label, '\n')", "labelLineHeight": LINE}
    names |= {"labelOffset": {"condition": offsets, "value": 0}} if offsets else {}
    encoding = {
        "y": {"field": "place", "type": "nominal", "sort": places, "title": None, "axis": names},
        "x": x | {"stack": "zero"},
        "color": {
            "field": kind,
            "type": "nominal",
            "title": None,
            "sort": list(kinds),
            "scale": {"domain": list(kinds), "range": "phase"},
        },
        "order": {"field": "order", "type": "quantitative"},
    }
    columns = {"group": "run", "trained": "trained", kind: kind, cost: x["title"]} | spread_columns(means)
    mark = {"type": "bar", "cornerRadiusEnd": 2}
    height = (10 + LINE * (1 + max(counts, default=0))) * len(places)
    return plotted(name, title, note, means, mark, encoding, columns, height)


def _broken(name: str) -> str:
    """A name in lines; `k = 3` stays whole."""
    return "\n".join(textwrap.wrap(name.replace(" = ", "\u00a0=\u00a0"), LETTERS))


def _largest(means: Rows, cost: str) -> tuple[list[str], int]:
    """The places of the longest bars in the order of the rows, and how many are left out."""
    total: dict[str, float] = {}
    for row in means:
        total[row["place"]] = total.get(row["place"], 0.0) + row[cost]
    longest = sorted(total, key=lambda place: -total[place])[:MOST_BARS]
    return [place for place in total if place in longest], len(total) - len(longest)


def _peaks(runs: Sequence[ReportedRun]) -> Chart | None:
    """Peak memory up to the end of each stage, of runs of earlier versions and where the parts cannot be measured."""
    rows = [
        {"group": run.group, "block": row["block"], "memory": row["peak_memory_mb"]}
        for run in runs
        for row in run.rows
        if row.get("peak_memory_mb") is not None
    ]
    means = averaged(rows, "memory", "block")
    encoding = {
        "x": {**BLOCK, "title": "depth j"},
        "xOffset": {"field": "group", "sort": groups_of(runs)},
        "y": quantity("memory", "peak memory (MiB)"),
        "color": colour_of(runs),
    }
    columns = {"group": "run", "block": "depth", "memory": "peak memory (MiB)"} | spread_columns(means)
    note = "On a GPU of each stage; on a CPU of the whole process up to then, PyTorch and cached features included."
    return plotted("memory", "Peak memory", note, means, BARS, encoding, columns, height=220)
