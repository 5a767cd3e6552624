"""Draws docs/figures/gap.svg from results/fast.json: accuracy on training and on test images after each block.

python scripts/gap_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from layerwise.analysis.drawing import PALETTE, pyplot, save

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "figures" / "gap.svg"


def draw(panel: Any) -> None:
    rows = {row["experiment"]: row for row in json.loads((ROOT / "results" / "fast.json").read_text())["rows"]}
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


def main() -> None:
    figure, panel = pyplot().subplots(figsize=(5.5, 3.4), layout="constrained")
    draw(panel)
    save(figure, OUTPUT)


if __name__ == "__main__":
    main()
