"""The time from a command to its answer."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.runs import TRAIN, has_cifar10, seconds_of_command


def measure(device: torch.device, rounds: int = 3) -> dict[str, Any]:
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
        seconds_of_command(TRAIN, [*words, *limits, f"output_dir={place}"])
        (metrics,) = Path(place).glob("*/metrics.jsonl")
        epoch = json.loads(metrics.read_text().splitlines()[-1])
        return metrics.stat().st_mtime - epoch["seconds"] - started
