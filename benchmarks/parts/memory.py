"""Peak memory of a whole run."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from benchmarks.runs import has_cifar10, ours_run
from layerwise.data.torchvision_sets import CIFAR10

IMAGES, TESTED = 1280, 512
"""Ten steps of each block; the other images only take their own space."""


def measure(device: torch.device) -> dict[str, Any]:
    """Peak resident memory of train.py: CIFAR-10, k = 3, full width, batch 128, without a cache."""
    if not has_cifar10():
        print("memory: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    limits = [f"dataset.limit={IMAGES}", f"dataset.limit_test={TESTED}"]
    peak = ours_run(["k=3", "cache=none", "epochs=1", *limits], device)["peak_gb"]
    rest = (CIFAR10.train_samples + CIFAR10.test_samples - IMAGES - TESTED) * prod(CIFAR10.shape) / 1e9
    return {"peak_gb_of_few_images": peak, "peak_gb": peak + rest}
