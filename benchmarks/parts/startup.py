"""The time from a command to its answer."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.runs import TRAIN, has_cifar10, seconds_of_command

SHORT = ("J=1", "epochs=1", "model.downsample=[]", "dataset.limit=256", "dataset.limit_test=64", "progress=off")
"""A run of one short epoch."""


def measure(device: torch.device, rounds: int = 3) -> dict[str, Any]:
    """Seconds from a command to its first training step, and of importing PyTorch and torchvision, which it needs.

    A row per command that trains nothing: its seconds, and their ratio to those of `python -c "import hydra"`. The
    commands take turns.

    Args:
        rounds: turns; medians are taken.
    """
    figures: dict[str, Any] = {}
    for name in ("demo_digits", *(["laptop_cifar10"] if has_cifar10() else [])):
        turns = [first_step(f"experiment={name}", device) for _ in range(rounds)]
        figures[f"{name}_seconds"] = statistics.median(turns)
    imports = [seconds_of_command("-c", ["import torch, torchvision"]) for _ in range(rounds)]
    return figures | {"imports_seconds": statistics.median(imports)} | quick_commands(device, rounds)


def quick_commands(device: torch.device, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds and ratio of each command that trains nothing, by what it does."""
    with tempfile.TemporaryDirectory() as place:
        run = ["train", "experiment=demo_digits", *SHORT, f"device={device}", f"output_dir={place}/runs"]
        seconds_of_command("-m", ["layerwise", *run])
        commands: dict[str, list[str]] = {
            "layerwise --help": ["--help"],
            "train --help": ["train", "--help"],
            "a mistyped key": ["train", "optimizer.lrr=1"],
            "a mistyped group": ["train", "dataset=cifar1O"],
            "summary=json": ["train", "summary=json"],
            "a finished run": run,
            "collect": ["collect", f"{place}/runs"],
            "report": ["report", f"{place}/runs", "--output", f"{place}/report.html"],
        }
        seconds: dict[str, list[float]] = {"import hydra": [], **{name: [] for name in commands}}
        for _ in range(rounds):
            seconds["import hydra"].append(seconds_of_command("-c", ["import hydra"]))
            for name, words in commands.items():
                code = 2 if "mistyped" in name else 0
                seconds[name].append(seconds_of_command("-m", ["layerwise", *words], code))
    medians = {name: statistics.median(turns) for name, turns in seconds.items()}
    return {name: {"seconds": taken, "ratio": taken / medians["import hydra"]} for name, taken in medians.items()}


def first_step(experiment: str, device: torch.device) -> float:
    """Seconds from the start of a run of one short epoch to the beginning of this epoch."""
    with tempfile.TemporaryDirectory() as place:
        started = time.time()
        seconds_of_command(TRAIN, [experiment, *SHORT, f"device={device}", f"output_dir={place}"])
        (metrics,) = Path(place).glob("*/metrics.jsonl")
        epoch = json.loads(metrics.read_text().splitlines()[-1])
        return metrics.stat().st_mtime - epoch["seconds"] - started
