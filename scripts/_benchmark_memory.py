"""The parts `memory` and `vgg` of benchmark.py: peak memory of whole processes."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from _benchmark_steps import has_cifar10, precision_on, trainer_of
from _runs import ROOT

from layerwise.core.allocator import keep_freed_memory, return_freed_memory
from layerwise.core.machine import peak_memory_mb
from layerwise.data.dataset import Dataset, Resident
from layerwise.data.torchvision_sets import CIFAR10
from layerwise.features.sources import BatchPlan, Recompute
from layerwise.models.blocknet import Segment
from layerwise.models.vgg import VGG_LAYERS, block_count, vgg
from layerwise.training.plan import Stage, greedy, joint


def measure_memory(device: torch.device) -> dict[str, Any]:
    """Peak resident memory of train.py: CIFAR-10, k = 3, full width, batch 128, without a cache."""
    if not has_cifar10():
        print("memory: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    images = 1280  # ten steps of each block; the other images only take their own space
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "k=3", "cache=none", "epochs=1", f"dataset.limit={images}"]
        command += ["dataset.limit_test=512", f"output_dir={folder}", "progress=off", f"device={device}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (results,) = Path(folder).glob("*/results.json")
        peak = json.loads(results.read_text())["blocks"][-1]["peak_memory_mb"] * 2**20 / 1e9
    rest = (CIFAR10.train_samples + CIFAR10.test_samples - images - 512) * prod(CIFAR10.shape) / 1e9
    return {"peak_gb_of_few_images": peak, "peak_gb": peak + rest}


def measure_vgg(device: torch.device) -> dict[str, Any]:
    """Peak memory of processes that take a step of each stage of VGG-11 at 224 pixels, batch 32: greedy and joint."""
    context = multiprocessing.get_context("spawn")
    peaks: dict[str, Any] = {}
    for plan in (greedy, joint):
        pipe, theirs = context.Pipe()
        process = context.Process(target=serve_peak_of_vgg, args=(theirs, plan, device))
        process.start()
        peaks[f"{plan.__name__}_mb"] = pipe.recv()
        process.join()
    return peaks | {"ratio": peaks["greedy_mb"] / peaks["joint_mb"]}


def serve_peak_of_vgg(pipe: Connection, plan: Callable[[int, int], list[Stage]], device: torch.device) -> None:
    keep_freed_memory()
    stages, batch = plan(block_count(VGG_LAYERS[11]), 1), 32
    depths = {depth for stage in stages for depth in stage.depths}
    net = vgg((3, 224, 224), 1000, layers=VGG_LAYERS[11], k=3, depths=depths)
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
    pipe.send(peak_memory_mb(device))
