"""Whole runs on CIFAR-10, as a user starts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.runs import has_cifar10, ours_run, plain_run

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


def measure(
    device: torch.device, images: int = 1280, epochs: int = 10, width: int = 32, runs: Sequence[str] = tuple(RUNS)
) -> dict[str, Any]:
    """Seconds of whole runs on CIFAR-10 as commands, and of the training and scoring in them, by both.

    The plain implementation always augments. It changes its learning rate between epochs, as ours does where 10
    divides `epochs`; in so short a run some steps more or fewer at a rate show in the accuracy. The command's seconds
    hold the start, which weighs the more the smaller the run is; with 50,000 images it is the whole experiment.

    Args:
        images: of training; a fifth as many are tested.
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
