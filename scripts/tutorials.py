"""Runs the tutorials' experiments with several seeds and writes their tables and figures into docs/tutorials.md.

    python scripts/tutorials.py dataset.root=FOLDER          all of them: half an hour on a core
    python scripts/tutorials.py blobs autoencoder labelled   some of them: two minutes, without a download
    python scripts/tutorials.py --scale tiny --docs FOLDER   seconds: checks that everything runs

Finished runs are not repeated. The results of all seeds go to results/tutorials.json. In docs/tutorials.md the text
between `<!-- NAME -->` and `<!-- end -->` is replaced. Figures need matplotlib: pip install -e ".[report]".
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _tutorial_pages import FIGURES, TABLES, Runs

from layerwise.analysis.drawing import pyplot
from layerwise.commands.errors import reported
from layerwise.commands.in_process import run_here
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.core.machine import hardware

ROOT = Path(__file__).resolve().parents[1]

KERAS = "experiment=tutorial_mlp_cifar10_keras"
PYTORCH = "experiment=tutorial_mlp_cifar10_pytorch"
PATIENCE = ["J=null", "plan.max_blocks=10", "plan.patience=3"]
BLOBS = "experiment=tutorial_blobs_supervised"
ENCODER = "experiment=tutorial_blobs_autoencoder"
DIGITS = "experiment=tutorial_labelled_digits"
FEW_LABELS = [ENCODER, "J=3", "dataset.labelled=0.1", "optimizer.clip_norm=1"]
AFTER = "plan.finetune.epochs=100"
BEFORE = "plan.finetune.autoencoder_epochs=100"

TUTORIALS: dict[str, dict[str, list[str]]] = {
    "keras": {"head frozen": [KERAS], "head trained": [KERAS, "plan.head=carried"]},
    "pytorch": {"1 epoch": [PYTORCH]},
    "blobs": {"10 a layer": [BLOBS]},
    "autoencoder": {
        "6 layers of 10": [ENCODER, AFTER],
        "6 layers of 10, before": [ENCODER, BEFORE, AFTER],
        "6 layers of 10, gradients clipped": [ENCODER, "optimizer.clip_norm=1", AFTER],
        "3 layers of 10": [ENCODER, "J=3", AFTER],
        "3 layers of 10, before": [ENCODER, "J=3", BEFORE, AFTER],
        "10-6-3-6-10": [ENCODER, "J=null", "model.width=null", "model.widths=[10,6,3,6,10]", AFTER],
        "10-6-3-6-10, before": [ENCODER, "J=null", "model.width=null", "model.widths=[10,6,3,6,10]", BEFORE, AFTER],
    },
    "depth": {
        "10 layers, the last is the result": [KERAS],
        "patience of 3": [KERAS, *PATIENCE],
        "patience of 3 on a fifth of the data": [KERAS, *PATIENCE, "plan.search_fraction=0.2"],
    },
    "labelled": {
        "blobs, pretrained": [*FEW_LABELS, AFTER],
        "blobs, not pretrained": [*FEW_LABELS, "plan=joint", "plan.epochs=100"],
        "digits, pretrained": [DIGITS],
        "digits, not pretrained": [DIGITS, "plan=joint", "plan.epochs=50", "plan.finetune.epochs=0"],
    },
}
"""Runs of each tutorial: arguments of train.py by name."""

SEEDS = {name: range(3 if name in ("keras", "pytorch", "depth") else 5) for name in TUTORIALS}

TINY = {
    "keras": ["epochs=1", "J=2", "dataset.limit=500", "dataset.limit_test=100"],
    "pytorch": ["J=2", "dataset.limit=500", "dataset.limit_test=100"],
    "depth": ["epochs=1", "dataset.limit=2000", "dataset.limit_test=100"],
    "blobs": ["epochs=2", "J=4"],
    "autoencoder": ["epochs=2", "plan.finetune.epochs=2"],
    "labelled": ["epochs=2", "plan.epochs=2"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="TUTORIAL or KEY=VALUE", help=f"{', '.join(TUTORIALS)}; overrides")
    parser.add_argument("--scale", choices=["full", "tiny"], default="full")
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of 3 seeds for images, 5 for the rest")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/tutorials"), help="folder of the run folders")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of tutorials.md")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of tutorials.json")
    options = parser.parse_intermixed_args()
    chosen = [word for word in options.words if "=" not in word] or list(TUTORIALS)
    if unknown := set(chosen) - set(TUTORIALS):
        raise LayerwiseError(f"{min(unknown)}: no such tutorial. Known: {', '.join(TUTORIALS)}.")
    overrides = [word for word in options.words if "=" in word]
    pyplot()  # a missing matplotlib is reported before the runs, not after
    document = options.docs / "tutorials.md"
    for tutorial in chosen:
        runs, folders = run_tutorial(
            tutorial, options.seeds or SEEDS[tutorial], options.scale, [*overrides, f"output_dir={options.output_dir}"]
        )
        write_record(options.results / "tutorials.json", tutorial, runs)
        text, draw = TABLES[tutorial](runs), FIGURES.get(tutorial)
        fill(document, tutorial, text)
        if draw is not None:
            draw(runs, folders, options.docs)
    return 0


def run_tutorial(
    tutorial: str, seeds: Sequence[int], scale: str, overrides: list[str]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Path]]:
    """Results of all seeds by name of the run, and the folder of the first seed by name."""
    runs: dict[str, list[dict[str, Any]]] = {}
    folders: dict[str, Path] = {}
    for name, words in TUTORIALS[tutorial].items():
        tiny = TINY[tutorial] if scale == "tiny" else []
        for seed in seeds:
            results, folder = run_here([*words, *tiny, *overrides, f"seed={seed}"])
            runs.setdefault(name, []).append(results)
            folders.setdefault(name, folder)
    return runs, folders


RECORDED = ("seed", "stages", "final", "search", "seconds", "git_commit")
"""Keys of results.json that tutorials.json keeps."""


def write_record(path: Path, tutorial: str, runs: Runs) -> None:
    """Writes the results of one tutorial into the JSON file and keeps the others."""
    record = json.loads(path.read_text()) if path.exists() else {}
    record[tutorial] = {
        "runs": {
            name: [{key: results.get(key) for key in RECORDED} for results in seeds] for name, seeds in runs.items()
        },
        "arguments": TUTORIALS[tutorial],
        "hardware": hardware(torch.device("cpu")),
    }
    write_atomically(path, json.dumps(record) + "\n", kept="The runs are intact.")


def fill(document: Path, name: str, text: str) -> None:
    """Replaces the text between the marks of a name in a document, or appends it with its marks."""
    content = document.read_text() if document.exists() else ""
    block = f"<!-- {name} -->\n{text}\n<!-- end -->"
    marked = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
    content = marked.sub(lambda _: block, content) if marked.search(content) else f"{content}\n{block}\n"
    write_atomically(document, content, kept="The runs are intact.")


if __name__ == "__main__":
    with reported():
        sys.exit(main())
