"""Shows that a change of the code changes no number: a set of small float32 runs, recorded before and after.

    git stash; python scripts/same_numbers.py record /tmp/before
    git stash pop; python scripts/same_numbers.py record /tmp/after
    python scripts/same_numbers.py compare /tmp/before /tmp/after

The runs use every plan, cache, source of features, head and family of networks on data that need no download;
together they take about two minutes on two cores. `record` starts each as `train.py` in a process of its own and skips
those that are finished in FOLDER; `--repository` records another checkout. `compare` reads results.json (the rows of
all depths and the final figures) and metrics.jsonl, leaves out times, rates and memory, and compares the rest to the
bit; what only the new runs have is no difference.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

DIGITS = ("dataset=digits", "dataset.limit=240", "dataset.limit_test=120", "batch_size=40", "epochs=2")
SMALL = (*DIGITS, "model.width=8", "J=3")
IMAGES = ("dataset=imagefolder", "dataset.root={images}", "batch_size=8", "epochs=2")
RUNS: dict[str, tuple[str, ...]] = {
    # the old checkouts know no model.bias: there every block has a bias
    "greedy_k1_recomputed": (*SMALL, "k=1", "cache=none", "dataset.augment=true", "model.bias=true"),
    "greedy_k2_exact_memory": (*SMALL, "k=2", "model.head_width=8", "cache=memory", "cache.views=epochs"),
    "greedy_k3_disk_two_views": (
        *SMALL,
        "k=3",
        "model.head_width=8",
        "cache=disk",
        "cache.views=2",
        "cache.dtype=uint8",
    ),
    "greedy_warm_start": (*SMALL, "k=2", "model.head_width=8", "plan.warm_start=true", "model.downsample=[]"),
    "greedy_pairs": (*SMALL, "J=4", "k=2", "model.head_width=8", "plan.blocks_per_stage=2"),
    "greedy_pruned": (*SMALL, "k=2", "model.head_width=8", "plan.prune_to=4", "plan.prune_epochs=1"),
    "greedy_carried_searched": (
        *("dataset=blobs", "model=mlp", "model.width=12", "k=1", "epochs=3", "plan.head=carried", "plan.max_blocks=3"),
        *("plan.search_fraction=0.5", "dataset.validation=0.2", "plan.patience=1"),
    ),
    "recipe": (
        *(*SMALL, "k=2", "model.head_width=8", "optimizer.schedule=onecycle", "optimizer.nesterov=true"),
        *("optimizer.average=0.9", "optimizer.norm_decay=false", "objective.label_smoothing=0.1"),
        *("model.activation=gelu", "model.initialisation=dirac", "plan.finetune.epochs=1", "evaluation.every=1"),
    ),
    "joint": (*SMALL, "k=2", "model.head_width=8", "plan=joint", "optimizer=adam"),
    "simultaneous": (*SMALL, "k=2", "model.head_width=8", "plan=simultaneous", "model.downsampling=stride"),
    "simultaneous_mlp_sr": (*SMALL, "k=2", "plan=simultaneous", "model.head=mlp_sr", "model.downsampling=max"),
    "simultaneous_predsim": (*SMALL, "k=2", "plan=simultaneous", "model.head=predsim", "model.downsampling=average"),
    "autoencoder": (
        *("dataset=digits", "dataset.standardise=false", "dataset.labelled=0.5", "dataset.validation=0.2", "J=2"),
        *("model=mlp", "model.widths=[16,8]", "k=1", "epochs=2", "plan=autoencoder", "plan.finetune.epochs=1"),
    ),
    "mlp_k2": (*DIGITS, "model=mlp", "model.width=16", "model.head_width=16", "J=2", "k=2", "optimizer=adamw"),
    "table": (
        "dataset=table",
        "dataset.path={table}",
        "model=mlp",
        "model.width=8",
        "k=1",
        "J=2",
        "epochs=3",
        "batch_size=30",
    ),
    "vgg": (*IMAGES, "dataset.size=64", "model=vgg", "model.depth=11", "model.width=4", "k=3", "epochs=1"),
    "alexnet": (*IMAGES, "dataset.size=64", "model=alexnet", "model.width=4", "k=2", "epochs=1"),
    "resnet_cifar": (
        *("dataset=digits", "dataset.limit=200", "epochs=1", "model=resnet_cifar", "model.depth=8", "model.width=4"),
        *("J=3", "k=2", "plan=simultaneous"),
    ),
    "timm_layerwise": (*IMAGES, "dataset.size=32", "model=timm", "model.name=test_resnet", "k=2", "epochs=1"),
    "timm_joint": (
        *IMAGES,
        "dataset.size=32",
        "model=timm",
        "model.name=test_resnet",
        "plan=joint",
        "optimizer=timm",
        "optimizer.name=lamb",
    ),
    "image_files_k2": (
        *IMAGES,
        "dataset.size=32",
        "model.width=4",
        "model.head_width=4",
        "k=2",
        "J=2",
        "dataset.workers=2",
    ),
    "two_processes": ("torchrun", *SMALL, "k=2", "model.head_width=8", "cache=memory", "cache.views=epochs"),
    "two_processes_by_block": (
        *("torchrun", *SMALL, "k=2", "model.head_width=8", "plan=simultaneous", "distributed.parallel=blocks"),
    ),
}
"""Overrides of train.py by the name of the run; {images} and {table} are made in the folder."""

LEFT_OUT = {
    "seconds",
    "images_per_second",
    "peak_memory_mb",
    "memory_mb",
    "utilisation",
    "git_commit",
    "versions",
    "hardware",
    "name",
    "run",
    "check",
}
"""What differs between two runs of the same code."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    recording = actions.add_parser("record", help="train the runs, with their folders below FOLDER")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--repository", type=Path, default=ROOT, help="checkout whose train.py is run")
    recording.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    recording.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    comparing = actions.add_parser("compare", help="compare two such folders to the bit")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    given = parser.parse_args()
    if given.action == "record":
        record(given.folder.resolve(), given.repository.resolve(), given.only, given.jobs)
    else:
        sys.exit(compare(given.old, given.new))


def record(folder: Path, repository: Path, names: list[str], jobs: int) -> None:
    """Trains the named runs with the train.py of a checkout."""
    places = {"images": make_images(folder / "data" / "images"), "table": make_table(folder / "data" / "table.csv")}

    def train(name: str) -> str | None:
        words = [word.format(**places) for word in RUNS[name]]
        launcher, threads = [sys.executable], "2"  # sums depend on the number of threads in their last bits
        if words[0] == "torchrun":
            launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
            words, threads = words[1:], "1"
        command = [*launcher, str(repository / "train.py"), *words, "precision=fp32", "device=cpu", "progress=off"]
        command += [f"output_dir={folder / name}"]
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
        return f"{name}: exit {done.returncode}\n{done.stderr[-2000:]}" if done.returncode else None

    with ThreadPoolExecutor(jobs) as pool:
        problems = [problem for problem in pool.map(train, names) if problem]
    if problems:
        sys.exit("\n".join(problems))


def make_images(folder: Path) -> Path:
    """Three classes of noisy patches of one colour each, as PNG files."""
    random = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for number, name in enumerate(("blue", "green", "red")):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for image in range(count):
                pixels = random.integers(0, 160, (72, 80, 3), dtype=np.uint8)
                pixels[..., 2 - number] += np.uint8(90)
                Image.fromarray(pixels).save(folder / split / name / f"{image}.png")
    return folder


def make_table(path: Path) -> Path:
    """Two measurements of three kinds, as a CSV file."""
    random = np.random.default_rng(1)
    kinds = random.integers(0, 3, 150)
    values = random.normal(size=(150, 2)) + kinds[:, None]
    lines = [f"{a:.3f},{b:.3f},kind_{kind}" for (a, b), kind in zip(values, kinds, strict=True)]
    path.write_text("\n".join(["width,length,kind", *lines]) + "\n")
    return path


def compare(old: Path, new: Path) -> int:
    """Prints each run and its first differences; the number of runs that differ is the exit status."""
    wrong = 0
    for name in RUNS:
        found = list(differences(numbers(old / name), numbers(new / name), ""))
        print(f"{name}: {'equal to the bit' if not found else '; '.join(found[:3])}")
        wrong += bool(found)
    print(f"{len(RUNS) - wrong} of {len(RUNS)} runs are equal to the bit")
    return wrong


def numbers(folder: Path) -> dict[str, Any]:
    """Rows, final figures and epochs of each run folder below a folder, in the order of their blocks and plans."""
    found = {}
    for path in sorted(folder.rglob("results.json"), key=lambda path: len(path.parts)):
        results = json.loads(path.read_text())
        epochs = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        kind = "search" if len(path.relative_to(folder).parts) > 2 else "whole"
        found[kind] = {"blocks": results["blocks"], "final": results["final"], "epochs": epochs}
    return found or {"whole": None}


def differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """What differs between two JSON trees, with its place; what only the new one has is no difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted((old.keys() | new.keys()) - LEFT_OUT):
            if key.endswith("top5") and key not in new and old[key] == 100:
                continue  # of five classes or fewer, which is no longer given
            if where and old.get(key) is None and key not in new:
                continue  # null, which the new run does not write
            if key not in new:
                yield f"{where}/{key} is only in the old run"
            elif key in old:  # a key of the new run alone is a new measure, no changed one
                yield from differences(old[key], new[key], f"{where}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{where}/{i}")
    elif old != new or (old is None and where == "/whole"):
        yield f"{where}: {old} became {new}"


if __name__ == "__main__":
    main()
