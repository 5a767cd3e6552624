"""Peak memory of a large network: trained greedily, and end to end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from benchmarks.steps import precision_on, trainer_of
from layerwise.core.machine import keep_freed_memory, peak_memory_mb, return_freed_memory
from layerwise.data.dataset import Dataset, Resident
from layerwise.data.torchvision_sets import CIFAR10
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import Segment
from layerwise.models.vgg import VGG_LAYERS, Vgg, block_count
from layerwise.training.plan import Stage, greedy, joint


def measure(device: torch.device) -> dict[str, Any]:
    """Peak memory of processes that take a step of each stage of VGG-11 at 224 pixels, batch 32: greedy and joint."""
    peaks: dict[str, Any] = {}
    for plan in (greedy, joint):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            peaks[f"{plan.__name__}_mb"] = process.submit(peak_of_vgg, plan, device).result()
    return peaks | {"ratio": peaks["greedy_mb"] / peaks["joint_mb"]}


def peak_of_vgg(plan: Callable[[int, int], list[Stage]], device: torch.device) -> float:
    keep_freed_memory()
    stages, batch = plan(block_count(VGG_LAYERS[11]), 1), 32
    depths = {depth for stage in stages for depth in stage.depths}
    net = Vgg(VGG_LAYERS[11], k=3).build((3, 224, 224), 1000, depths=depths)
    net.to(device, memory_format=torch.channels_last)
    split = Resident(torch.zeros(batch, 224, 224, 3, dtype=torch.uint8), torch.zeros(batch).long(), device)
    spec = replace(CIFAR10, shape=(3, 224, 224))
    data = Dataset(spec, {"train": split, "test": split}, None, seed=0, device=device)
    source = Recompute(data, BatchPlan(batch, seed=0), precision_on(device))
    for stage in stages:
        source.advance(list(net.blocks[source.depth : stage.start]))
        trainer = trainer_of(Segment(net, stage.start, stage.stop, stage.depths), device)
        trainer._train_step(*next(source.train(0, 0)))
        trainer.optimizer.zero_grad(set_to_none=True)
        return_freed_memory()
    return peak_memory_mb(device)
