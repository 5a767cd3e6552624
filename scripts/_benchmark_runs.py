"""The parts `run` and `startup` of benchmark.py: whole commands, as a user starts them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _benchmark_steps import has_cifar10
from _runs import ROOT

PLAIN = ROOT / "benchmarks" / "plain.py"

LAPTOP = ("experiment=laptop_cifar10",)
K1 = ("experiment=laptop_cifar10", "k=1", "J=5")
RUNS: dict[str, tuple[int, tuple[str, ...]]] = {
    "k = 3": (3, LAPTOP),
    "k = 1, a cached view an epoch": (1, (*K1, "cache=memory")),
    "k = 1, one view, cached": (1, (*K1, "cache=memory", "dataset.augment=false")),
}
"""Each k for the plain implementation, and the run of train.py that trains the same blocks for as long."""

CACHED_IMAGES = 6400
"""Most that a run with a cache trains on, so that its views fit into memory."""


def measure_run(
    device: torch.device, images: int = 1280, epochs: int = 10, width: int = 32, runs: Sequence[str] = tuple(RUNS)
) -> dict[str, Any]:
    """Seconds of whole runs on CIFAR-10 as commands, and of the training and scoring in them, by both.

    The plain implementation always augments. It changes its learning rate between epochs, as ours does where 10
    divides `epochs`; in so short a run some steps more or fewer at a rate show in the accuracy. The command's seconds
    hold the start, which weighs the more the smaller the run is; with 50,000 images it is the whole experiment.

    Args:
        images: of training; a fifth as many are tested.
        epochs: per block.
        width: M and M̃.
        runs: which ones.
    """
    if not has_cifar10():
        print("run: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    figures: dict[str, Any] = {}
    measured: dict[int, dict[str, float]] = {}
    for name in runs:
        k, words = RUNS[name]
        n = min(images, CACHED_IMAGES) if "cache=memory" in words else images
        size = [f"dataset.limit={n}", f"dataset.limit_test={n // 5}", f"epochs={epochs}"]
        ours = ours_run([*words, *size, f"model.width={width}", f"model.head_width={width}"], device)
        theirs = measured.get(k) or plain_run(k, n, epochs, width, width, device)
        measured[k] = theirs
        figures[name] = {
            "ours_command": ours["command"],
            "plain_command": theirs["command"],
            "command_ratio": theirs["command"] / ours["command"],
            "ours_run": ours["run"],
            "plain_run": theirs["run"],
            "run_ratio": theirs["run"] / ours["run"],
            "ours_top1": ours["top1"],
            "plain_top1": theirs["top1"],
        }
    return figures


FULL = {"paper_cifar10_k3": (), "fast_cifar10": ()}
"""Experiments of the part `full`, and what they are called with."""


def measure_full(
    device: torch.device,
    runs: Mapping[str, Sequence[str]] = FULL,
    images: int = 50_000,
    width: int = 128,
    head_width: int = 256,
) -> dict[str, Any]:
    """Seconds and accuracy of whole experiments on all of CIFAR-10 with compile=true, for which one wants a GPU.

    `plain_run_extrapolated` is for the plain implementation of paper_cifar10_k3: runs of one epoch a block and of two
    say what the start takes and what a further epoch does.

    Args:
        runs: further arguments of each experiment.
        images, width, head_width: of the plain implementation; M and M̃.
    """
    if not has_cifar10():
        print("full: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    figures: dict[str, Any] = {}
    for experiment, words in runs.items():
        figures[experiment] = ours_run([f"experiment={experiment}", "compile=true", *words], device)
    one, two = (plain_run(3, images, epochs, width, head_width, device)["run"] for epochs in (1, 2))
    theirs = one + (PAPERS_EPOCHS - 1) * (two - one)
    ours = figures["paper_cifar10_k3"]
    ours |= {"plain_run_extrapolated": theirs, "ratio": theirs / ours["run"]}
    return figures


PAPERS_EPOCHS = 50
"""For each block on CIFAR-10."""


def ours_run(words: Sequence[str], device: torch.device) -> dict[str, float]:
    """Seconds and the ensemble's accuracy of a run of train.py."""
    with tempfile.TemporaryDirectory() as place:
        options = ["progress=off", f"device={device}", f"output_dir={place}"]
        seconds = seconds_of_command(ROOT / "train.py", [*words, *options])
        (path,) = Path(place).glob("*/results.json")
        results = json.loads(path.read_text())
    return {"command": seconds, "run": results["seconds"], "top1": results["final"]["ensemble_top1"]}


def plain_run(k: int, images: int, epochs: int, width: int, head_width: int, device: torch.device) -> dict[str, float]:
    """The same of the plain implementation."""
    J, downsample = (5, ["3", "4"]) if k == 1 else (4, ["3"])
    words = [f"--k={k}", f"--J={J}", f"--width={width}", f"--head-width={head_width}", "--downsample", *downsample]
    words += [f"--epochs={epochs}", f"--limit={images}", f"--limit-test={images // 5}", f"--device={device}"]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "plain.json"
        seconds = seconds_of_command(PLAIN, [*words, f"--json={file}"])
        results = json.loads(file.read_text())
    return {"command": seconds, "run": results["seconds"], "top1": results["blocks"][-1]["ensemble"]}


def measure_startup(device: torch.device, rounds: int = 3) -> dict[str, Any]:
    """Seconds from a command to its first training step, and of that to import PyTorch and torchvision."""
    figures: dict[str, Any] = {}
    for name in ("demo_digits", *(["laptop_cifar10"] if has_cifar10() else [])):
        turns = [
            first_step([f"experiment={name}", "J=1", "epochs=1", "model.downsample=[]"], device) for _ in range(rounds)
        ]
        figures[f"{name}_seconds"] = statistics.median(turns)
    imports = [seconds_of_command("-c", ["import torch, torchvision"]) for _ in range(rounds)]
    return figures | {"imports_seconds": statistics.median(imports)}


def first_step(words: Sequence[str], device: torch.device) -> float:
    """Seconds from the start of a run of one short epoch to this epoch's begin."""
    with tempfile.TemporaryDirectory() as place:
        started = time.time()
        limits = ["dataset.limit=256", "dataset.limit_test=64", "progress=off", f"device={device}"]
        seconds_of_command(ROOT / "train.py", [*words, *limits, f"output_dir={place}"])
        (metrics,) = Path(place).glob("*/metrics.jsonl")
        epoch = json.loads(metrics.read_text().splitlines()[-1])
        return metrics.stat().st_mtime - epoch["seconds"] - started


def seconds_of_command(script: Path | str, words: Sequence[str]) -> float:
    """How long Python runs a script; what it prints is dropped."""
    started = time.perf_counter()
    subprocess.run([sys.executable, str(script), *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
