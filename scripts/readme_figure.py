"""Draws the figure of the README, docs/figures/layerwise.svg, from files of results/ only.

Left: CIFAR-10 test accuracy over the operations of training, for each way to train. Small points are seeds, large ones
their means; a line joins those that nothing trained the same way beats for as much or less. Filled: width and epochs
were chosen on held-out images; open: they were not (pooled.json, fast.json). Diamonds: the paper's networks and recipe
at a quarter of the width (cifar10_quarter.json).
Right: memory of training steps of VGG-11: parameters (with gradients and momenta) and activations, of the greedy stage
that needs most and end to end.

    python scripts/readme_figure.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _frontier_rows import CHOSEN, row

from layerwise.analysis.drawing import MARKERS, PALETTE, pyplot, save
from layerwise.reporting.html.paper_figures import paper_figure

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "figures" / "layerwise.svg"


def read(name: str) -> Any:
    return json.loads((ROOT / "results" / name).read_text())


WAYS = {
    "plan=joint": "end to end",
    "plan=simultaneous": "all blocks at once, k = 3",
    "k=1": "block by block, k = 1",
    "k=2": "block by block, k = 2",
    "": "block by block, k = 3",
}
"""Names of the ways to train, by the word of the command that tells them; the last one has none."""

PAPER_PFLOP = 67
"""Of the paper's network with k = 3: `layerwise train experiment=paper_cifar10_k3 summary=table`."""


DEEPER = "fast_cifar10, 5 blocks"
"""Held-out images chose three blocks."""


CHOSEN_ROWS = {row(*key, *pair).name for key, pair in CHOSEN.items()}
"""Names of the rows of frontier.json that held-out images chose."""


def way_of(entry: Mapping[str, Any]) -> str:
    """How a row of a table was trained, as in `WAYS`."""
    return next(word for word in WAYS if not word or word in entry["command"].split())


def cost_of(entry: Mapping[str, Any]) -> float:
    """PFLOP of training of a row of a table."""
    return float(entry["pflop"]["total_train"])


QUARTER = {"paper_cifar10_k3": "", "baseline_cifar10_joint": "plan=joint"}
"""Experiments of the paper's recipe that are shown, with their ways to train."""

COLORS = dict(zip(reversed(WAYS), PALETTE, strict=False))
"""By way to train, as in `WAYS`."""


def draw_accuracy(panel: Any) -> None:
    rows = [one for name in ("frontier", "pooled", "fast") for one in read(f"{name}.json")["rows"]]
    rows = [one for one in rows if one["experiment"] != DEEPER and "ours" in one]
    for (way, color), marker in zip(COLORS.items(), MARKERS, strict=False):
        mine = sorted((one for one in rows if way_of(one) == way), key=cost_of)
        label = f"{WAYS[way]}, n = {'/'.join(str(len(one['seeds'])) for one in mine)}"
        points = [(cost_of(one), one["ours"]["top1"]["mean"]) for one in mine]
        front = [(cost, mean) for cost, mean in points if all(mean >= other for paid, other in points if paid <= cost)]
        panel.plot(*zip(*front, strict=True), color=color, linewidth=1, marker=marker, markersize=5, label=label)
        for one, (cost, mean) in zip(mine, points, strict=True):
            values = one["ours"]["top1"]["values"]
            panel.plot([cost] * len(values), values, ".", color=color, markersize=3)
            panel.plot(cost, mean, marker, color=color, markersize=5)
            if one["experiment"] not in CHOSEN_ROWS:
                panel.plot(cost, mean, marker, color="white", markersize=3)
    narrow = [one for one in read("cifar10_quarter.json")["rows"] if one["experiment"] in QUARTER]
    for one in narrow:
        color = COLORS[QUARTER[one["experiment"]]]
        panel.plot(cost_of(one), one["ours"]["top1"]["mean"], "D", color=color, fillstyle="none")
    label = f"the paper's recipe, a quarter as wide, n = {'/'.join(str(len(one['seeds'])) for one in narrow)}"
    panel.plot([], [], "D", color="#666666", fillstyle="none", label=label)
    paper = paper_figure("paper_cifar10_k3").top1
    panel.plot(PAPER_PFLOP, paper, "*", color="#666666", markersize=9, label=f"the paper, k = 3: {paper} %")
    panel.set(xscale="log", xlabel="PFLOP of training", ylabel="test accuracy in %", title="CIFAR-10, last head")
    panel.legend(fontsize=8, loc="lower right")


def draw_memory(panel: Any) -> None:
    found = read("vgg_memory.json")["vgg"]
    places, begins = ["end to end", "block\nby block"], [0.0, 0.0]
    for part, color in (("parameters", "#999999"), ("activations", PALETTE[0])):
        values = [found[plan][part] / 1024 for plan in ("joint", "greedy")]
        bars = panel.barh(places, values, left=begins, color=color, height=0.6, label=part)
        panel.bar_label(bars, fmt="%.2f", label_type="center", color="white")
        begins = [begin + value for begin, value in zip(begins, values, strict=True)]
    panel.set(xlabel="memory of training in GiB", title="VGG-11, 224 pixels, batch 32")
    panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    panel.grid(visible=False, axis="y")


def main() -> None:
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(9, 3.4), width_ratios=(3, 2), layout="constrained")
    draw_accuracy(left)
    draw_memory(right)
    save(figure, OUTPUT)


if __name__ == "__main__":
    main()
