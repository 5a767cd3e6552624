"""Whole runs of layerwise and of the plain implementation, in this process and as commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "train.py"
PLAIN = ROOT / "benchmarks" / "plain.py"


def has_cifar10() -> bool:
    """Whether the real CIFAR-10 is where train.py looks for it."""
    return (Path(os.environ.get("LAYERWISE_DATA", "data")) / "cifar-10-batches-py").exists()


def ours_run(words: Sequence[str], device: torch.device) -> dict[str, float]:
    """Seconds, the ensemble's accuracy, and the peak memory of a run of train.py."""
    with tempfile.TemporaryDirectory() as place:
        options = ["progress=off", f"device={device}", f"output_dir={place}"]
        seconds = seconds_of_command(TRAIN, [*words, *options])
        (path,) = Path(place).glob("*/results.json")
        results = json.loads(path.read_text())
    peak = results["blocks"][-1]["peak_memory_mb"] * 2**20 / 1e9
    top1 = results["final"]["ensemble_top1"]
    return {"command": seconds, "run": results["seconds"], "top1": top1, "peak_gb": peak}


def plain_run(k: int, images: int, epochs: int, width: int, head_width: int, device: torch.device) -> dict[str, float]:
    """Seconds and the ensemble's accuracy of the plain implementation."""
    J, downsample = (5, ["3", "4"]) if k == 1 else (4, ["3"])
    words = [f"--k={k}", f"--J={J}", f"--width={width}", f"--head-width={head_width}", "--downsample", *downsample]
    words += [f"--epochs={epochs}", f"--limit={images}", f"--limit-test={images // 5}", f"--device={device}"]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "plain.json"
        seconds = seconds_of_command(PLAIN, [*words, f"--json={file}"])
        results = json.loads(file.read_text())
    return {"command": seconds, "run": results["seconds"], "top1": results["blocks"][-1]["ensemble"]}


def seconds_of_command(script: Path | str, words: Sequence[str], code: int = 0) -> float:
    """Seconds that `python SCRIPT WORDS…` takes; its output is dropped.

    Raises:
        SystemExit: its exit code is not `code`.
    """
    started = time.perf_counter()
    done = subprocess.run([sys.executable, str(script), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode != code:
        raise SystemExit(f"error: {script} {' '.join(words)} exits with {done.returncode}:\n{done.stderr.decode()}")
    return time.perf_counter() - started
