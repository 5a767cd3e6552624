"""The figures of docs/tutorials.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from _tutorial_tables import (
    PUBLISHED_BLOBS,
    PUBLISHED_ENCODER,
    PUBLISHED_ERROR,
    PUBLISHED_MLP,
    SPLITS,
    Runs,
    depth_accuracies,
    depth_errors,
    per_block,
)

import layerwise
from layerwise.analysis.drawing import MARKERS, PALETTE, pyplot, save
from layerwise.data.factory import describe, load


def draw_mlp(runs: Runs, folders: Mapping[str, Path], docs: Path) -> None:
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 3.6))
    seeds = next(iter(runs.values()))
    for i, split in enumerate(SPLITS):
        band(axes[0], per_block(seeds, split, "top1"), i, split)
    axes[0].set_title(next(iter(runs)), fontsize=10)
    for i, (name, found) in enumerate(runs.items()):
        band(axes[1], per_block(found, "test", "top1"), i, name)
    axes[1].set_title("test, all variants", fontsize=10)
    for ax in axes:
        ax.plot(range(1, len(PUBLISHED_MLP) + 1), PUBLISHED_MLP, "k--", label="published test")
        ax.set(xlabel="hidden layers", ylabel="accuracy (%)")
    axes[0].legend(fontsize=7)
    axes[1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
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
    data = load(describe("blobs", Path()), Path(), torch.device("cpu"), standardise=False)
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
    "mlp": draw_mlp,
    "blobs": draw_blobs,
    "autoencoder": draw_autoencoder,
}
