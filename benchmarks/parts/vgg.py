"""Memory of training a large network: block by block, and end to end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmarks.steps import precision_on, trainer_of
from layerwise.core.machine import MemoryGrowth, keep_freed_memory, peak_memory_mb
from layerwise.data.dataset import Dataset, Resident
from layerwise.data.torchvision_sets import CIFAR10
from layerwise.experiment.memory import training_memory
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import Segment
from layerwise.models.vgg import VGG_LAYERS, Vgg, block_count
from layerwise.training.plan import Stage, greedy, joint

BATCH, ROUNDS = 32, 5


def measure(device: torch.device) -> dict[str, Any]:
    """Memory in MB of training steps of VGG-11 at 224 pixels, batch 32: greedy and joint, and their ratio.

    Parameters, activations and their sum are those that results.json and the report have of a run, in the greedy stage
    that needs most: parameters with gradients and momenta, and what the process takes beyond them in the second step of
    a stage. The peak is that of the whole process, PyTorch included. The plans take turns, each in a process of its
    own; figures are medians, and `rounds` has the activations of each, as the allocator varies.
    """
    rounds: dict[str, list[dict[str, float]]] = {"greedy": [], "joint": []}
    for _ in range(ROUNDS):
        for plan in (greedy, joint):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                rounds[plan.__name__].append(process.submit(memory_of_vgg, plan, device).result())
    found = {name: {part: median(one[part] for one in of) for part in of[0]} for name, of in rounds.items()}
    ratio = {part: mb / found["joint"][part] for part, mb in found["greedy"].items()}
    each = {name: {"rounds": sorted(round(one["activations"]) for one in of)} for name, of in rounds.items()}
    return {name: found[name] | each[name] for name in found} | {"ratio": ratio}


def memory_of_vgg(plan: Callable[[int, int], list[Stage]], device: torch.device) -> dict[str, float]:
    """Trains two steps of each stage."""
    keep_freed_memory()
    stages = plan(block_count(VGG_LAYERS[11]), 1)
    depths = {depth for stage in stages for depth in stage.depths}
    net = Vgg(VGG_LAYERS[11], k=3).build((3, 224, 224), 1000, depths=depths)
    net.to(device, memory_format=torch.channels_last)
    split = Resident(torch.zeros(BATCH, 224, 224, 3, dtype=torch.uint8), torch.zeros(BATCH).long(), device)
    spec = replace(CIFAR10, shape=(3, 224, 224))
    data = Dataset(spec, {"train": split, "test": split}, None, seed=0, device=device)
    source = Recompute(data, BatchPlan(BATCH, seed=0), precision_on(device))
    found = []
    for stage in stages:
        source.advance(list(net.blocks[source.depth : stage.start]))
        growth = MemoryGrowth(device)
        trainer = trainer_of(segment := Segment(net, stage.start, stage.stop, stage.depths), device)
        trainer._train_step(*next(source.train(0, 0)))
        growth.settle()
        trainer._train_step(*next(source.train(0, 0)))
        found.append(training_memory(net, segment, trainer.optimizer, growth))
        trainer.optimizer.zero_grad(set_to_none=True)
    largest = max(found, key=lambda parts: sum(parts.values()))
    return largest | {"training": sum(largest.values()), "process_peak": peak_memory_mb(device)}
