"""Draws the figure of the README, docs/figures/layerwise.svg, from files of results/ only.

Left: CIFAR-10 test accuracy after each block, mean over seeds, of our recipes; the paper's figure; end to end.
Right: memory of training steps of VGG-11: parameters (with gradients and momenta) and activations, of the greedy stage
that needs most and end to end.

    python scripts/readme_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from layerwise.analysis.drawing import PALETTE, pyplot, save
from layerwise.reporting.html.paper_figures import paper_figure

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "figures" / "layerwise.svg"


def read(name: str) -> Any:
    return json.loads((ROOT / "results" / name).read_text())


def draw_accuracy(panel: Any) -> None:
    rows = {row["experiment"]: row for name in ("pooled", "fast") for row in read(f"{name}.json")["rows"]}
    for color, name in zip(PALETTE, ("fast_cifar10", "pooled_cifar10 epochs=4", "pooled_cifar10"), strict=False):
        row = rows[name]
        depths = range(1, len(row["blocks"][0]) + 1)
        mean = [fmean(seeds) for seeds in zip(*row["blocks"], strict=True)]
        label = f"{name}: {row['pflop']['total_train']:.2g} PFLOP, n = {len(row['blocks'])}"
        panel.plot(depths, mean, "-o", color=color, markersize=3, label=label)
    joint = rows["fast_cifar10 plan=joint plan.epochs=20"]
    if "ours" in joint:
        label = f"the first end to end: {joint['pflop']['total_train']:.2g} PFLOP, n = {len(joint['blocks'])}"
        panel.axhline(joint["ours"]["top1"]["mean"], linestyle="--", color=PALETTE[0], label=label)
    paper = paper_figure("paper_cifar10_k3").top1
    panel.axhline(paper, linestyle=":", color="#666666", label=f"the paper's last head, k = 3: {paper} %")
    panel.set(xlabel="trained blocks", ylabel="test accuracy in %", title="CIFAR-10, block by block, last head")
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
