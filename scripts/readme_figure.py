"""Draws the figure of the README, docs/figures/layerwise.svg, from files of results/ only.

Left: CIFAR-10 test accuracy after each block, beside the same network trained end to end for as many epochs.
Right: peak memory of training steps of VGG-11, for each of its stages and end to end.

    python scripts/readme_figure.py
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from layerwise.analysis.drawing import PALETTE, pyplot
from layerwise.core.files import write_atomically

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "figures" / "layerwise.svg"


def read(name: str) -> Any:
    return json.loads((ROOT / "results" / name).read_text())


def accuracies() -> dict[str, tuple[list[float], float]]:
    """For each recipe: test accuracy (%) after each block, and end to end."""
    paper = {row["experiment"]: row["blocks"][0] for row in read("cifar10_small.json")["rows"]}
    ours = {"plan=joint" in run["overrides"]: run["test"] for run in read("recipes.json")["all_of_cifar10"]}
    return {
        "paper's recipe": (paper["paper_cifar10_k3"], paper["baseline_cifar10_joint"][0]),
        "our recipe": (ours[False], ours[True][0]),
    }


def draw_accuracy(panel: Any) -> None:
    for color, (recipe, (blocks, joint)) in zip(PALETTE, accuracies().items(), strict=False):
        depths = range(1, len(blocks) + 1)
        panel.plot(depths, blocks, "-o", color=color, label=f"{recipe}, block by block: {blocks[-1]:.1f} %")
        panel.axhline(joint, linestyle="--", color=color, label=f"{recipe}, end to end: {joint:.1f} %")
        panel.set_xticks(depths)
    panel.set(xlabel="trained blocks", ylabel="test accuracy in %", title="CIFAR-10, k = 3, M = 32, 12 epochs in all")
    panel.legend(fontsize=8, loc="lower right")


def draw_memory(panel: Any) -> None:
    found = read("benchmark_cpu_2_cores.json")["vgg"]
    values = [found["joint_mb"] / 1000, found["greedy_mb"] / 1000]
    bars = panel.barh(["end to end", "block\nby block"], values, color=["#999999", PALETTE[0]], height=0.6)
    panel.bar_label(bars, fmt="%.2f GB", padding=4)
    panel.set(xlabel="peak memory in GB", xlim=(0, 1.3 * max(values)), title="VGG-11, 224 pixels, batch 32")
    panel.grid(visible=False, axis="y")


def main() -> None:
    plt = pyplot()
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "layerwise", "font.family": "sans-serif"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(3, 2), layout="constrained")
    draw_accuracy(left)
    draw_memory(right)
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None}, facecolor="white")
    write_atomically(OUTPUT, content.getvalue(), kept="The files of results/ are unchanged.")
    print(f"figure: {OUTPUT}")


if __name__ == "__main__":
    main()
