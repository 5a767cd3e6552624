"""Peak memory of a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import torch

from benchmarks.runs import TRAIN, has_cifar10
from layerwise.data.torchvision_sets import CIFAR10


def measure(device: torch.device) -> dict[str, Any]:
    """Peak resident memory of train.py: CIFAR-10, k = 3, full width, batch 128, without a cache."""
    if not has_cifar10():
        print("memory: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    images = 1280  # ten steps of each block; the other images only take their own space
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(TRAIN), "k=3", "cache=none", "epochs=1", f"dataset.limit={images}"]
        command += ["dataset.limit_test=512", f"output_dir={folder}", "progress=off", f"device={device}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (results,) = Path(folder).glob("*/results.json")
        peak = json.loads(results.read_text())["blocks"][-1]["peak_memory_mb"] * 2**20 / 1e9
    rest = (CIFAR10.train_samples + CIFAR10.test_samples - images - 512) * prod(CIFAR10.shape) / 1e9
    return {"peak_gb_of_few_images": peak, "peak_gb": peak + rest}
