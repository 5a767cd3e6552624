"""Draws the figures of docs/gap.md: accuracy on training and on test images after each block.

gap.svg is from results/fast.json; gap_steps.svg, from results/gap.json, has three ways with equally many epochs for
each block.

    python scripts/gap_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from layerwise.analysis.drawing import PALETTE, pyplot, save

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "docs" / "figures"
LINES = {"training": "--", "blocks": "-"}
"""By key of a row of results, whose curves are on training and on test images."""

WAYS = {"greedy k=3": "block by block", "simultaneous": "all blocks at once", "joint": "end to end"}
"""Names of the ways, by the beginnings of the rows' names."""


def rows_of(name: str) -> dict[str, Any]:
    return {row["experiment"]: row for row in json.loads((ROOT / "results" / name).read_text())["rows"]}


def draw(panel: Any) -> None:
    rows = rows_of("fast.json")
    greedy, joint = rows["fast_cifar10, 5 blocks"], rows["fast_cifar10, 5 blocks, end to end"]
    for color, (key, what) in zip(PALETTE, {"training": "training", "blocks": "test"}.items(), strict=False):
        depths = range(1, len(greedy[key][0]) + 1)
        mean = [fmean(seeds) for seeds in zip(*greedy[key], strict=True)]
        panel.plot(
            depths, mean, "-o", color=color, markersize=3, label=f"block by block, {what}, n = {len(greedy[key])}"
        )
        for seeds in greedy[key]:
            panel.plot(depths, seeds, ".", color=color, markersize=3, alpha=0.5)
        if key in joint:
            value = fmean(seeds[-1] for seeds in joint[key])
            panel.axhline(value, linestyle="--", color=color, label=f"end to end, {what}, n = {len(joint[key])}")
    panel.set(
        xlabel="trained blocks",
        ylabel="accuracy in %",
        title="fast_cifar10 with five blocks: the last head",
        xticks=depths,
    )
    panel.legend(fontsize=8, loc="lower right")


def draw_steps(panel: Any, epochs: int) -> None:
    """Test accuracy (solid) and training accuracy (dashed) of three ways."""
    rows = rows_of("gap.json")
    for color, (way, label) in zip(PALETTE, WAYS.items(), strict=False):
        row = rows[f"{way}, {epochs} epochs"]
        for key, line in LINES.items():
            values = row[key][0]
            shown = label if key == "blocks" else None
            if way == "joint":
                panel.axhline(values[-1], linestyle=line, color=color, linewidth=1, label=shown)
            else:
                panel.plot(range(1, len(values) + 1), values, f"{line}o", color=color, markersize=3, label=shown)
    panel.set(xlabel="depth", title=f"{epochs} epochs for each block", xticks=range(1, 7))


def main() -> None:
    plt = pyplot()
    figure, panel = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    draw(panel)
    save(figure, FIGURES / "gap.svg")
    figure, panels = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True, layout="constrained")
    for panel, epochs in zip(panels, (4, 12), strict=True):
        draw_steps(panel, epochs)
    panels[0].set_ylabel("accuracy in %")
    for line, label in zip(LINES.values(), ("training", "test"), strict=True):
        panels[1].plot([], [], line, color="#666666", label=label)
    panels[1].legend(fontsize=8, loc="lower right")
    save(figure, FIGURES / "gap_steps.svg")


if __name__ == "__main__":
    main()
