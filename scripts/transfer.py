"""Measures transfer learning: blocks trained on one data set, used on another, against the same network from scratch.

    python scripts/transfer.py dataset.root=FOLDER      CIFAR-10, then Imagenette at 32 pixels; some minutes on a core

The first run trains a network greedily on CIFAR-10. On the other data set its blocks are kept as they are (frozen),
trained on with a small learning rate (tuned), or not used (scratch). Writes results/transfer.json and
results/transfer.md; finished runs are not repeated. FOLDER holds both data sets.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from layerwise.commands.errors import reported
from layerwise.commands.in_process import run_here
from layerwise.core.files import write_atomically
from layerwise.core.machine import git_commit, hardware
from layerwise.core.spread import spread, with_spread
from layerwise.runs.run_files import SPEC, read_spec

ROOT = Path(__file__).resolve().parents[1]

NETWORK = [
    *("k=2", "J=3", "model.width=32", "model.head_width=32", "model.downsample=[2,3]", "model.input_downsample=false"),
    "report=false",
]
SOURCE = ["dataset=cifar10", "dataset.limit=10000", "epochs=3"]
TARGET = ["dataset=imagenette", "dataset.size=32", "epochs=6", "batch_size=64"]
WAYS = {
    "scratch": [],
    "frozen": ["model.pretrained={source}", "plan.frozen_blocks=3"],
    "tuned": ["model.pretrained={source}", "optimizer.lr=0.01"],
}
"""How a run on the other data set begins; `{source}` is the folder of the first run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="keys of all runs, such as dataset.root=FOLDER")
    parser.add_argument("--source", nargs="+", default=SOURCE, metavar="KEY=VALUE", help="of the first data set")
    parser.add_argument("--target", nargs="+", default=TARGET, metavar="KEY=VALUE", help="of the other one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/transfer"), help="folder of the run folders")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    options = parser.parse_intermixed_args()
    shared = [*NETWORK, *options.words, f"output_dir={options.output_dir}"]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in options.seeds:
        _, source = run_here([*options.source, *shared, f"seed={seed}"])
        for way, words in WAYS.items():
            found, folder = run_here(
                [*options.target, *shared, f"seed={seed}", *(word.format(source=source) for word in words)]
            )
            runs[way].append({"seed": seed, "final": found["final"], "seconds": found["seconds"]})
    record = {
        "source": [*options.source, *NETWORK],
        "target": [*options.target, *NETWORK],
        "samples": samples_of(folder),
        "seeds": options.seeds,
        "hardware": hardware(torch.device("cpu")),
        "git_commit": git_commit(),
        "runs": runs,
    }
    kept = "The runs are intact."
    write_atomically(options.results / "transfer.json", json.dumps(record, indent=1) + "\n", kept)
    write_atomically(options.results / "transfer.md", table(record), kept)
    print(table(record))


def samples_of(folder: Path) -> list[int]:
    """Numbers of training and test samples of a run."""
    spec = read_spec(folder / SPEC)
    assert spec is not None, "the run is finished"
    return [spec.train_samples, spec.test_samples]


def table(record: dict[str, Any]) -> str:
    """The measured accuracies as Markdown."""
    first, second = (shlex.join(record[name]) for name in ("source", "target"))
    train, test = record["samples"]
    lines = [
        "# Transfer learning",
        "",
        f"First `layerwise train {first}`, then `layerwise train {second}` with its blocks.",
        f"Test top-1 in per cent on the second data set ({train:,} + {test:,} samples), mean ± standard deviation over",
        f"{len(record['seeds'])} seed(s), and seconds of a run on {record['hardware']['threads']} thread(s) of an",
        f"{record['hardware']['cpu']}, which other work shared.",
        "",
        "| blocks | further keys | last head | ensemble | seconds |",
        "|---|---|---|---|---|",
    ]
    for way, words in WAYS.items():
        of = record["runs"][way]
        cells = [with_spread(spread([run["final"][name] for run in of])) for name in ("test_top1", "ensemble_top1")]
        seconds = sum(run["seconds"] for run in of) / len(of)
        keys = f"`{' '.join(words)}`".replace("{source}", "FOLDER") if words else ""
        lines.append(f"| {way} | {keys} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with reported():
        sys.exit(main())
