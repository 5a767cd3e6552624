"""Draws the norm of each block's gradient: end to end against block by block, sigmoid against ReLU.

    python scripts/gradients.py             a minute on a core: a perceptron of 8 hidden layers on the digits
    python scripts/gradients.py J=3         other keys of `layerwise train`

Writes results/gradients.json and docs/figures/gradients.png; finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from layerwise.analysis.drawing import over_depth, pyplot, save
from layerwise.commands.errors import reported
from layerwise.commands.in_process import run_here
from layerwise.core.files import write_atomically
from layerwise.core.machine import git_commit, hardware
from layerwise.runs.metrics import read_lines
from layerwise.runs.run_files import METRICS

ROOT = Path(__file__).resolve().parents[1]

NETWORK = [
    *("dataset=digits", "model=mlp", "k=1", "J=8", "model.width=32", "model.initialisation=glorot_uniform"),
    *("optimizer=adam", "optimizer.lr=1e-3", "epochs=5", "precision=fp32", "evaluation.gradients=true", "report=false"),
]
PLANS = {"end to end": ["plan=joint", "plan.epochs=5"], "block by block": ["plan=greedy"]}
ACTIVATIONS = {"sigmoid": "sigmoid", "relu": "ReLU"}

Norms = list[dict[str, list[float]]]
"""Of each seed: by block such as `block_2` the norm of its gradient, epoch by epoch of its training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/gradients"), help="folder of the run folders")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    options = parser.parse_intermixed_args()
    pyplot()  # a missing matplotlib is reported before the runs, not after
    more = [*options.words, f"output_dir={options.output_dir}"]
    runs = {
        f"{activation}, {plan}": measured([*NETWORK, f"model.activation={activation}", *words, *more], options.seeds)
        for activation in ACTIVATIONS
        for plan, words in PLANS.items()
    }
    facts = {"arguments": [*NETWORK, *options.words], "seeds": options.seeds, "git_commit": git_commit()}
    record = {**facts, "hardware": hardware(torch.device("cpu")), "runs": runs}
    write_atomically(options.results / "gradients.json", json.dumps(record) + "\n", kept="The runs are intact.")
    draw({name: run["gradients"] for name, run in runs.items()}, options.docs / "figures" / "gradients.png")


def measured(words: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """The norms of the gradients and the test accuracy of the last depth in per cent, of each seed."""
    norms: Norms = []
    top1 = []
    for seed in seeds:
        results, folder = run_here([*words, f"seed={seed}"])
        lines = [line["gradients"] for line in read_lines(folder / METRICS)]
        blocks = sorted({name for line in lines for name in line if name.startswith("block_")})
        norms.append({name: [line[name] for line in lines if name in line] for name in blocks})
        top1.append(results["final"]["test_top1"])
    return {"gradients": norms, "test_top1": top1}


def draw(runs: Mapping[str, Norms], path: Path) -> None:
    """Draws the norms over the blocks, of the first and the last epoch of each block's training."""
    figure, panels = pyplot().subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for panel, (activation, title) in zip(panels, ACTIVATIONS.items(), strict=True):
        for number, plan in enumerate(PLANS):
            for epoch, style, when in ((0, "-", "first epoch"), (-1, ":", "last epoch")):
                seeds = runs[f"{activation}, {plan}"]
                curves = [{int(n.removeprefix("block_")): values[epoch] for n, values in s.items()} for s in seeds]
                over_depth(panel, number, curves, style, label=f"{plan}, {when}", markersize=4)
        panel.set(xlabel="block", title=title, yscale="log")
    panels[0].set_ylabel("norm of the loss's gradient")
    panels[1].legend(fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    with reported():
        sys.exit(main())
