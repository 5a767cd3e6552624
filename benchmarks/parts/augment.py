"""Augmentation alone."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from benchmarks import plain
from benchmarks.plain_process import RandomImages
from benchmarks.steps import BATCH, Loop, one_thread, source_of, take_turns


def measure(device: torch.device, images: int = 2048, rounds: int = 5) -> dict[str, Any]:
    """Images/s of crop, flip and scaling: uint8 batches in one thread or on the GPU, and PIL images one by one."""
    source = source_of(device, images)
    data, order = source.data, torch.arange(images, device=device)
    theirs = DataLoader(Subset(RandomImages(plain.TRAIN), range(images)), BATCH, shuffle=True)
    loops: list[Loop] = [
        lambda n: [list(data.batches("train", order, BATCH, view=view)) for view in range(n)],
        lambda n: [list(theirs) for _ in range(n)],
    ]
    with one_thread():
        a, b = take_turns(loops, rounds, steps=1, device=device)
    return {"ours": images / a, "plain": images / b, "ratio": b / a}
