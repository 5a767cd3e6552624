"""Whole experiments on all of CIFAR-10, on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.runs import has_cifar10, ours_run, plain_run

FULL = {"paper_cifar10_k3": (), "modern_cifar10_k3": ()}
"""Experiments of the part `full`, and what they are called with."""

PAPERS_EPOCHS = 50
"""For each block on CIFAR-10."""


def measure(
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
