"""Tables and figures of docs/tutorials.md, with the published figures beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import layerwise
from layerwise.analysis.drawing import MARKERS, PALETTE, pyplot, save
from layerwise.core.spread import spread
from layerwise.data.factory import load
from layerwise.data.toy import Blobs

PUBLISHED_LOSS = (1.48, 1.39, 1.47, 1.67, 1.94, 2.17, 2.33, 2.47, 2.57, 2.65)
PUBLISHED_MLP = (48.5, 51.4, 50.5, 50.0, 48.7, 48.7, 48.0, 48.2, 47.9, 47.9)
"""Test loss and accuracy (%) of a published run with 25 epochs, for 1 … 10 hidden layers."""

PUBLISHED_BLOBS = {"train": (81.6, 85.0), "test": (82.0, 83.8)}
"""Lowest and highest accuracy (%) of a published run, over 2 … 12 layers."""

PUBLISHED_ERROR = (0.000, 0.001, 0.002, 0.016, 2.311, 2.192)
PUBLISHED_ENCODER = (83.2, 84.2, 83.8, 83.4, 76.2, 76.0)
"""Squared error on train, and test accuracy (%) of the classifier, of a published run for 1 … 6 layers."""

Runs = Mapping[str, list[dict[str, Any]]]
"""results.json of each seed, by the name of the run."""


def per_block(seeds: list[dict[str, Any]], *path: str) -> list[dict[str, Any]]:
    """Mean and deviation over the seeds of one value of each block."""
    return [spread([_value(results["blocks"][i], path) for results in seeds]) for i in range(len(seeds[0]["blocks"]))]


def _value(row: Any, path: tuple[str, ...]) -> float:
    for name in path:
        row = row[name]
    return float(row)


def plus_minus(values: dict[str, Any], digits: int) -> str:
    """`83.1 ± 0.4`."""
    return f"{values['mean']:.{digits}f}" + ("" if values["std"] is None else f" ± {values['std']:.{digits}f}")


def table(headings: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def keras_table(runs: Runs) -> str:
    """Test loss and accuracy of each depth beside the published run."""
    figures = [per_block(seeds, "test", what) for what in ("loss", "top1") for seeds in runs.values()]
    half = len(runs)
    rows = [
        [
            *(str(i + 1), published(PUBLISHED_LOSS, i, 2), *(plus_minus(values[i], 2) for values in figures[:half])),
            *(published(PUBLISHED_MLP, i, 1), *(plus_minus(values[i], 1) for values in figures[half:])),
        ]
        for i in range(len(figures[0]))
    ]
    headings = ["published test loss", *(f"{name}: loss" for name in runs)]
    headings += ["published test %", *(f"{name}: %" for name in runs)]
    seconds = ", ".join(
        f"{name} {plus_minus(spread([results['seconds'] for results in found]), 0)}" for name, found in runs.items()
    )
    return f"{table(['hidden layers', *headings], rows)}\n\nSeconds of a run: {seconds}."


def pytorch_table(runs: Runs) -> str:
    """The training loss of each depth, and whether it is the best so far."""
    (seeds,) = runs.values()
    loss, test = per_block(seeds, "train", "loss"), per_block(seeds, "test", "top1")
    better = per_block(seeds, "improved_loss")
    rows = [
        [
            *(str(i + 1), each(loss[i], 3), plus_minus(loss[i], 3)),
            *(f"{round(sum(better[i]['values']))} of {len(seeds)}", plus_minus(test[i], 1)),
        ]
        for i in range(len(loss))
    ]
    return table(["layers", "training loss, each seed", "mean", "better than all before", "test %"], rows)


def published(values: tuple[float, ...], i: int, digits: int) -> str:
    """A published value, or a dash where the table ends earlier."""
    return f"{values[i]:.{digits}f}" if i < len(values) else "–"


def blobs_table(runs: Runs) -> str:
    (seeds,) = runs.values()
    train, test = (per_block(seeds, split, "top1") for split in ("train", "test"))
    rows = [[str(i + 2), plus_minus(train[i], 1), plus_minus(test[i], 1)] for i in range(len(train))]
    ranges = [f"{low} … {high}" for low, high in PUBLISHED_BLOBS.values()]
    ours = [f"{min(v['mean'] for v in values):.1f} … {max(v['mean'] for v in values):.1f}" for values in (train, test)]
    rows += [["**range of our means**", *ours], ["**published range**", *ranges]]
    return table(["layers", "train %", "test %"], rows)


def autoencoder_table(runs: Runs) -> str:
    """Depth by depth beside the published run, then what fine-tuning changes."""
    seeds = next(iter(runs.values()))
    error, accuracy = depth_errors(seeds), depth_accuracies(seeds)
    rows = [
        [
            *(str(i + 1), published(PUBLISHED_ERROR, i, 3), plus_minus(error[i], 3), each(error[i], 3)),
            *(published(PUBLISHED_ENCODER, i, 1), plus_minus(accuracy[i], 1), each(accuracy[i], 1)),
        ]
        for i in range(len(error))
    ]
    headings = ["layers", "published error", "error on train", "each seed", "published test %", "test %", "each seed"]
    return (
        f"{table(headings, rows)}\n\nFine-tuning of all weights for 100 epochs at a tenth of the learning rate:\n\n"
        + table(["encoder", "fine-tuned", "error on train", "classifier, test %"], finetuning_rows(runs))
    )


def finetuning_rows(runs: Runs) -> list[list[str]]:
    """For each encoder: as it was grown; with the decoder before the classifier is fitted; then with it."""
    rows = []
    for name, seeds in runs.items():
        base, tuned_before = name.removesuffix(", before"), name.endswith(", before")
        last = len(seeds[0]["stages"]) - 1
        grown = 2 * seeds[0]["stages"][last]["block"]  # of each depth a stage for the block, one for the classifier
        if tuned_before:
            rows.append([base, "with the decoder", _stage(seeds, grown, "error"), _stage(seeds, grown + 1, "test")])
            rows.append([base, "with the decoder, then with the classifier", "", _stage(seeds, last, "test")])
        else:
            rows.append([base, "no", _stage(seeds, grown - 2, "error"), _stage(seeds, grown - 1, "test")])
            rows.append([base, "with the classifier", "", _stage(seeds, last, "test")])
    return rows


def _stage(seeds: list[dict[str, Any]], index: int, what: str) -> str:
    """The error on train, or the test accuracy, of one stage."""
    stages = [results["stages"][index] for results in seeds]
    if what == "error":
        return plus_minus(spread([stage["reconstruction"]["train"]["loss"] for stage in stages]), 3)
    return plus_minus(spread([stage["test"]["top1"] for stage in stages]), 1)


def depth_accuracies(seeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Test accuracy of the first classifier of each depth, before any fine-tuning."""
    return first_of_each_depth(seeds, "labels", lambda stage: stage["test"]["top1"])


def depth_errors(seeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reconstruction error on train of each depth, before any fine-tuning."""
    return first_of_each_depth(seeds, "inputs", lambda stage: stage["reconstruction"]["train"]["loss"])


def first_of_each_depth(
    seeds: list[dict[str, Any]], target: str, value: Callable[[dict[str, Any]], float]
) -> list[dict[str, Any]]:
    """Mean and deviation over the seeds of what the first stage with a target says of each depth."""
    first = [{s["block"]: value(s) for s in reversed(seed["stages"]) if s["target"] == target} for seed in seeds]
    return [spread([by_depth[depth] for by_depth in first]) for depth in sorted(first[0])]


def each(values: dict[str, Any], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values["values"])


def labelled_table(runs: Runs) -> str:
    rows = []
    for name, seeds in runs.items():
        data, how = name.split(", ")
        frozen = depth_accuracies(seeds)[-1]
        last = spread([results["final"]["test_top1"] for results in seeds])
        if how == "pretrained":
            rows.append([data, "on all inputs", plus_minus(frozen, 1), plus_minus(last, 1)])
        else:
            rows.append([data, "none", "–", plus_minus(last, 1)])
    headings = [
        "data, a tenth labelled",
        "pretraining",
        "classifier on frozen features, test %",
        "all layers trained, test %",
    ]
    return table(headings, rows)


def depth_table(runs: Runs) -> str:
    rows = []
    for name, seeds in runs.items():
        searches = [results.get("search") for results in seeds]
        grown = [
            len(results["blocks"]) if search is None else len(search["validation"])
            for results, search in zip(seeds, searches, strict=True)
        ]
        seconds = [
            results["seconds"] + (0.0 if search is None else search["seconds"])
            for results, search in zip(seeds, searches, strict=True)
        ]
        chosen = ", ".join(str(results["final"]["block"]) for results in seeds)
        accuracy = spread([results["final"]["test_top1"] for results in seeds])
        cells = [", ".join(map(str, grown)), chosen, plus_minus(accuracy, 1), plus_minus(spread(seconds), 1)]
        rows.append([name, *cells])
    return table(["how the depth is chosen", "layers tried", "layers of the result", "test %", "seconds"], rows)


TABLES: dict[str, Callable[[Runs], str]] = {
    "keras": keras_table,
    "pytorch": pytorch_table,
    "blobs": blobs_table,
    "autoencoder": autoencoder_table,
    "depth": depth_table,
    "labelled": labelled_table,
}


def draw_keras(runs: Runs, folders: Mapping[str, Path], docs: Path) -> None:
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 3.6))
    for ax, what, known in ((axes[0], "loss", PUBLISHED_LOSS), (axes[1], "top1", PUBLISHED_MLP)):
        for i, (name, found) in enumerate(runs.items()):
            band(ax, per_block(found, "test", what), i, name)
        ax.plot(range(1, len(known) + 1), known, "k--", label="published")
        ax.set_xlabel("hidden layers")
        ax.legend(fontsize=7)
    axes[0].set_ylabel("test loss")
    axes[1].set_ylabel("test accuracy (%)")
    save(figure, docs / "figures" / "tutorial_mlp_cifar10.png")


def draw_blobs(runs: Runs, folders: Mapping[str, Path], docs: Path) -> None:
    (seeds,), (folder,) = runs.values(), folders.values()
    figure, ax = pyplot().subplots(figsize=(5.5, 3.6))
    for i, split in enumerate(("train", "test")):
        band(ax, per_block(seeds, split, "top1"), i, split, first=2)
        ax.axhspan(*PUBLISHED_BLOBS[split], color=PALETTE[i], alpha=0.08, label=f"published range, {split}")
    ax.set(xlabel="layers", ylabel="accuracy (%)")
    ax.legend(fontsize=7)
    save(figure, docs / "figures" / "tutorial_blobs_supervised.png")
    draw_regions(folder, docs / "figures" / "tutorial_blobs_regions.png")


def draw_regions(folder: Path, path: Path) -> None:
    """The class that the network of a run gives each point of the plane, for a few depths."""
    network = layerwise.load(folder)
    data = load(Blobs(), torch.device("cpu"), standardise=False)
    points, labels = data.splits["test"].values, data.splits["test"].labels  # type: ignore[attr-defined]
    low, high = points.min(0).values - 1, points.max(0).values + 1
    x, y = (torch.linspace(float(low[i]), float(high[i]), 200) for i in range(2))
    grid = torch.cartesian_prod(x, y)  # [200·200, 2]
    shown = sorted({1, len(network.blocks) // 3 + 1, len(network.blocks)})
    figure, axes = pyplot().subplots(1, len(shown), figsize=(3.4 * len(shown), 3.2), sharey=True)
    for ax, depth in zip(axes, shown, strict=True):
        with torch.no_grad():
            regions = network(network.normalise(grid), depth=depth).argmax(1).view(len(x), len(y))
        ax.contourf(x, y, regions.T, levels=[-0.5, 0.5, 1.5, 2.5], colors=PALETTE[:3], alpha=0.25)
        for c in range(3):
            of_class = points[labels == c]
            ax.plot(of_class[:, 0], of_class[:, 1], MARKERS[c], color=PALETTE[c], markersize=2.5, label=f"class {c}")
        ax.set_title(f"{depth + 1} layers", fontsize=10)
    axes[0].legend(fontsize=7)
    save(figure, path)


def draw_autoencoder(runs: Runs, folders: Mapping[str, Path], docs: Path) -> None:
    seeds = next(iter(runs.values()))
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 3.6))
    error, accuracy = depth_errors(seeds), depth_accuracies(seeds)
    for ax, values, known in ((axes[0], error, PUBLISHED_ERROR), (axes[1], accuracy, PUBLISHED_ENCODER)):
        depths = range(1, len(values) + 1)
        for i in range(len(seeds)):
            ax.plot(depths, [v["values"][i] for v in values], color=PALETTE[0], alpha=0.35, linewidth=1)
        ax.plot(depths, [v["mean"] for v in values], MARKERS[0] + "-", color=PALETTE[0], label="mean of our seeds")
        ax.plot(range(1, len(known) + 1), known, "k--", label="published")
        ax.set_xlabel("layers of the encoder")
        ax.legend(fontsize=7)
    axes[0].set_yscale("symlog", linthresh=1e-3)
    axes[0].set_ylabel("squared error on train")
    axes[1].set_ylabel("classifier, test accuracy (%)")
    save(figure, docs / "figures" / "tutorial_blobs_autoencoder.png")


def band(ax: Any, values: list[dict[str, Any]], i: int, label: str, first: int = 1) -> None:
    """A line of means with their deviations."""
    depths = list(range(first, first + len(values)))
    means, deviations = [v["mean"] for v in values], [v["std"] or 0.0 for v in values]
    ax.plot(depths, means, MARKERS[i] + "-", color=PALETTE[i], label=label, markersize=4)
    lower, upper = ([m + sign * d for m, d in zip(means, deviations, strict=True)] for sign in (-1, 1))
    ax.fill_between(depths, lower, upper, color=PALETTE[i], alpha=0.15, linewidth=0)


FIGURES: dict[str, Callable[[Runs, Mapping[str, Path], Path], None]] = {
    "keras": draw_keras,
    "blobs": draw_blobs,
    "autoencoder": draw_autoencoder,
}
