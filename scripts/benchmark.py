"""Measures speed and memory on this machine and prints each as a ratio within this one run.

    python scripts/benchmark.py                     everything, a few minutes on two cores
    python scripts/benchmark.py block memory        some parts: block, data, depth, memory, vgg, decode, …
    python scripts/benchmark.py decode --images FOLDER
    python scripts/benchmark.py --json FILE         the figures also as JSON

block   images/s of block 1 of the k = 3 network: this framework (data, augmentation, training step)
        against a plain float32 NCHW loop over the same layers on ready inputs (no data to prepare)
data    share of data and augmentation in a training step at full width
depth   cost of a step of block j = 1 … 8, with an exact cache and without, against the block alone
memory  peak resident memory of a whole full-width run
vgg     peak resident memory of a training step of VGG-11 at 224 pixels, batch 32: the greedy stages, one after
        another, against plan=joint
decode  images/s of one core from JPEG files to augmented batches (decoding, random resized crop, flip): this
        framework against torchvision's ImageFolder with its transforms on PIL images
small   steps/s of a network of a few hundred weights, in real runs of experiment=tutorial_blobs_supervised, against a
        bare PyTorch loop: what the framework costs where a step has next to nothing to compute
logging seconds of training of experiment=demo_digits with W&B (offline) and TensorBoard, against none
processes  images/s of two processes, each on a core of its own, against one on one core, for the same batches:
        distributed.parallel=data and blocks

Inputs are random images of CIFAR-10's shape; `memory` and `processes` need the real CIFAR-10 under
$LAYERWISE_DATA, `decode` a folder with train/<class>/… and val/<class>/….
The compared loops take turns, and medians are compared, because the speed of a machine drifts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import cycle
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _benchmark_logging import measure_logging
from _benchmark_processes import measure_processes
from _benchmark_small import measure_small
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from layerwise.allocator import keep_freed_memory, return_freed_memory
from layerwise.counters import key, permutation
from layerwise.data import Dataset
from layerwise.data.augment import CropFlip
from layerwise.data.class_folders import TRAIN, list_images
from layerwise.data.dataset import Resident
from layerwise.data.folder_images import Cut, FolderImages
from layerwise.data.resized_crop import ResizedCrop
from layerwise.data.torchvision_sets import CIFAR10
from layerwise.downsampling import Downsampling
from layerwise.environment import hardware, peak_memory_mb, versions
from layerwise.feature_codec import FeatureCodec, FeatureDtype
from layerwise.feature_store import FeatureStores
from layerwise.interrupt import StopRequest
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.models.simcnn import simcnn
from layerwise.models.vgg import VGG_LAYERS, block_count, vgg
from layerwise.objectives import LocalLoss
from layerwise.optim import Constant, sgd
from layerwise.plan import Stage, greedy, joint
from layerwise.precision import Precision, PrecisionName, choose_device, choose_precision
from layerwise.sources import BatchPlan, Cached, Recompute, Source
from layerwise.trainer import Recipe, StageTrainer
from layerwise.types import Batch

BATCH = 128
ROOT = Path(__file__).resolve().parents[1]
Figures = dict[str, Any]


def main() -> None:
    parts: dict[str, Callable[[torch.device], Figures]] = {
        "block": measure_block,
        "data": measure_data,
        "depth": measure_depth,
        "memory": measure_memory,
        "vgg": measure_vgg,
        "decode": lambda device: measure_decode(options.images),
        "small": measure_small,
        "logging": measure_logging,
        "processes": lambda device: measure_processes(),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="default: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="for decode")
    options = parser.parse_args()
    device = choose_device(options.device)
    keep_freed_memory()  # as train.py does
    figures: Figures = {"hardware": hardware(device), "versions": versions()}
    print(", ".join(f"{name} {value}" for name, value in figures["hardware"].items()))
    for name in options.parts or parts:
        figures[name] = parts[name](device)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure_block(device: torch.device) -> Figures:
    """Block 1 at full and at a quarter width, this framework against a plain loop."""
    table = Table("M, M̃", "ours, img/s", "plain float32, img/s", "ratio", title="block 1, k = 3, batch 128")
    figures: Figures = {}
    for width, head_width, rounds, steps in ((128, 256, 5, 2), (32, 64, 7, 5), (32, 32, 7, 10)):
        net = network(width, head_width, J=1).to(device, memory_format=torch.channels_last)
        ours = stepper(trainer_of(block_segment(net, 1), device), source_of(device))
        plain = PlainLoop(width, head_width, device)
        a, b = take_turns([ours, plain], rounds, steps, device)
        plain.close()
        row = {"ours": BATCH / a, "plain": BATCH / b, "ratio": b / a}
        table.add_row(f"{width}, {head_width}", f"{row['ours']:.0f}", f"{row['plain']:.0f}", f"{row['ratio']:.2f}×")
        figures[f"{width},{head_width}"] = row
    Console().print(table)
    return figures


def measure_data(device: torch.device) -> Figures:
    """Seconds for a batch's data and augmentation, against a whole step."""
    net = network(128, 256, J=1).to(device, memory_format=torch.channels_last)
    source = source_of(device)
    batches = endless(source)
    whole = stepper(trainer_of(block_segment(net, 1), device), source)
    step, data = take_turns([whole, lambda: next(batches)], rounds=7, steps=2, device=device)
    print(f"data and augmentation: {1e3 * data:.2f} ms of a step of {1e3 * step:.1f} ms: {100 * data / step:.2f} %")
    return {"data_seconds": data, "step_seconds": step, "share": data / step}


def measure_depth(device: torch.device) -> Figures:
    """A step of block j for j = 1 … 8: exact cache, no cache, and the block alone on ready inputs."""
    J, width = 8, 32
    net = network(width, width, J).to(device, memory_format=torch.channels_last)
    precision = choose_precision(PrecisionName.auto, device)
    codec = FeatureCodec(FeatureDtype(precision.name))
    data = images_on(device, n=10 * BATCH, augment=False)  # without augmentation one view is exact
    plan = BatchPlan(BATCH, seed=0)
    cached = Cached(Recompute(data, plan, precision), FeatureStores(codec, folder=None), 1, StopRequest())
    recompute = Recompute(data, plan, precision)
    table = Table("block", "alone, ms", "cached ÷ alone", "recomputed ÷ alone", title="a step of block j of J = 8")
    figures: Figures = {}
    for depth in range(1, J + 1):
        if depth > 1:
            cached.advance([net.blocks[depth - 2]])
            recompute.advance([net.blocks[depth - 2]])
        ready = list(cached.train(0, 0))
        loops = [
            stepper(trainer_of(block_segment(net, depth), device), source)
            for source in (ReadyInputs(ready), cached, recompute)
        ]
        alone, with_cache, without = take_turns(loops, rounds=7, steps=5, device=device)
        figures[str(depth)] = {
            "alone_seconds": alone,
            "cached_ratio": with_cache / alone,
            "recomputed_ratio": without / alone,
        }
        table.add_row(str(depth), f"{1e3 * alone:.1f}", f"{with_cache / alone:.3f}", f"{without / alone:.3f}")
    Console().print(table)
    return figures


def measure_memory(device: torch.device) -> Figures:
    """Peak resident memory of train.py: CIFAR-10, k = 3, full width, batch 128, without a cache."""
    if not (Path(os.environ.get("LAYERWISE_DATA", "data")) / "cifar-10-batches-py").exists():
        print("memory: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    images = 2560  # twenty steps of each block; the other images only take their own space
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "k=3", "cache=none", "epochs=1", f"dataset.limit={images}"]
        command += ["dataset.limit_test=512", f"output_dir={folder}", "progress=off", f"device={device}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (results,) = Path(folder).glob("*/results.json")
        peak = json.loads(results.read_text())["blocks"][-1]["peak_memory_mb"] * 2**20 / 1e9
    rest = (CIFAR10.train_samples + CIFAR10.test_samples - images - 512) * prod(CIFAR10.shape) / 1e9
    print("peak resident memory, CIFAR-10, k = 3, full width, batch 128, cache=none: ", end="")
    print(f"{peak:.2f} GB with {images} images, and {rest:.2f} GB for the others: {peak + rest:.2f} GB")
    return {"peak_gb_of_few_images": peak, "peak_gb": peak + rest}


def measure_vgg(device: torch.device) -> Figures:
    """Peak memory of processes that take a step of each stage of VGG-11, greedy and joint."""
    context = multiprocessing.get_context("spawn")
    peaks: Figures = {}
    for plan in (greedy, joint):
        pipe, theirs = context.Pipe()
        process = context.Process(target=serve_peak_of_vgg, args=(theirs, plan, device))
        process.start()
        peaks[f"{plan.__name__}_mb"] = pipe.recv()
        process.join()
    peaks["ratio"] = peaks["greedy_mb"] / peaks["joint_mb"]
    print(f"VGG-11, 224 pixels, batch 32, k = 3: greedy {peaks['greedy_mb']:.0f} MB, ", end="")
    print(f"joint {peaks['joint_mb']:.0f} MB, ratio {peaks['ratio']:.2f}")
    return peaks


def serve_peak_of_vgg(pipe: Connection, plan: Callable[[int, int], list[Stage]], device: torch.device) -> None:
    keep_freed_memory()
    stages, batch = plan(block_count(VGG_LAYERS[11]), 1), 32
    depths = {depth for stage in stages for depth in stage.depths}
    net = vgg((3, 224, 224), 1000, layers=VGG_LAYERS[11], k=3, depths=depths)
    net.to(device, memory_format=torch.channels_last)
    split = Resident(torch.zeros(batch, 224, 224, 3, dtype=torch.uint8), torch.zeros(batch).long(), device)
    spec = replace(CIFAR10, shape=(3, 224, 224))
    data = Dataset(spec, {"train": split, "test": split}, None, seed=0, device=device)
    source = Recompute(data, BatchPlan(batch, seed=0), choose_precision(PrecisionName.auto, device))
    for stage in stages:
        source.advance(list(net.blocks[source.depth : stage.start]))
        trainer = trainer_of(Segment(net, stage.start, stage.stop, stage.depths), device)
        trainer._train_step(*next(source.train(0, 0)))
        trainer.optimizer.zero_grad(set_to_none=True)
        return_freed_memory()
    pipe.send(peak_memory_mb(device))


def measure_decode(folder: Path | None) -> Figures:
    """Images/s of one thread from files to cropped and flipped batches of uint8 (ours) or float (theirs)."""
    if folder is None:
        print("decode: not measured, it needs --images FOLDER")
        return {}
    table = Table("size", "ours, img/s", "torchvision, img/s", "ratio", title="JPEG files to batches, one thread")
    figures: Figures = {}
    threads, images = torch.get_num_threads(), 512
    torch.set_num_threads(1)
    for size in (64, 128):
        a, b = take_turns(decoding_loops(folder / TRAIN, size, images), rounds=7, steps=1, device=torch.device("cpu"))
        row = {"ours": images / a, "torchvision": images / b, "ratio": b / a}
        table.add_row(str(size), f"{row['ours']:.0f}", f"{row['torchvision']:.0f}", f"{row['ratio']:.2f}×")
        figures[str(size)] = row
    torch.set_num_threads(threads)
    Console().print(table)
    return figures


def decoding_loops(folder: Path, size: int, images: int) -> list[Callable[[], object]]:
    """Ours and torchvision's way through the same images of a folder, in this process."""
    files, labels = list_images(folder)
    chosen = permutation(key("benchmark"), len(files))[:images]
    cut = Cut(size, short_side=size * 8 // 7, resized_crop=ResizedCrop(size, seed=0))
    ours = FolderImages(files, labels, cut=cut, device=torch.device("cpu"), workers=0).take(chosen)
    batches = torch.arange(images).split(BATCH)
    textbook = transforms.Compose(
        [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    theirs = DataLoader(Subset(ImageFolder(str(folder), textbook), chosen.tolist()), BATCH)
    return [lambda: list(ours.read(batches, view=0)), lambda: list(theirs)]


class ReadyInputs:
    """A source whose batches are there already."""

    depth = 0

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def train(self, stage: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        return iter(self.batches)


def network(width: int, head_width: int, J: int) -> BlockNet:
    return simcnn(
        CIFAR10.shape,
        len(CIFAR10.classes),
        k=3,
        J=J,
        width=width,
        head_width=head_width,
        downsample=[3] if J >= 3 else [],
        downsampling=Downsampling.invertible,
        batch_norm=True,
    )


def images_on(device: torch.device, n: int, augment: bool) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator)
    split = Resident(images, torch.randint(0, 10, (n,), generator=generator), device)
    crop_flip = CropFlip(CIFAR10.padding, CIFAR10.flip) if augment else None
    return Dataset(CIFAR10, {"train": split, "test": split}, crop_flip, seed=0, device=device)


def source_of(device: torch.device) -> Recompute:
    """50,000 augmented images, as in a real epoch."""
    precision = choose_precision(PrecisionName.auto, device)
    return Recompute(images_on(device, 50_000, augment=True), BatchPlan(BATCH, seed=0), precision)


def block_segment(net: BlockNet, depth: int) -> Segment:
    return Segment(net, depth - 1, depth, [depth])


def trainer_of(segment: Segment, device: torch.device) -> StageTrainer:
    segment.requires_grad_(True)
    precision: Precision = choose_precision(PrecisionName.auto, device)
    optimizer = sgd(segment.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=False)
    recipe = Recipe(
        epochs=10**6,
        samples=50_000,
        batch_size=BATCH,
        lr=0.01,
        schedule=Constant(),
        restart_momentum=False,
        clip_norm=None,
        seed=0,
    )
    trainer = StageTrainer(0, segment, LocalLoss(), optimizer, recipe, precision)
    segment.train()
    return trainer


def endless(source: Source | ReadyInputs) -> Iterator[Batch]:
    """Full batches, epoch after epoch."""
    for epoch in cycle(range(50)):
        yield from (batch for batch in source.train(0, epoch) if len(batch.targets) == BATCH)


def stepper(trainer: StageTrainer, source: Source | ReadyInputs) -> Callable[[], object]:
    """One training step with its data."""
    batches = endless(source)
    return lambda: trainer._train_step(*next(batches))


class PlainLoop:
    """Textbook PyTorch in a process of its own, which none of our settings reach: float32, NCHW, ready inputs.

    Calling it trains one step; steps run while the caller waits.
    """

    def __init__(self, width: int, head_width: int, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve_plain_steps, args=(theirs, width, head_width, device), daemon=True)
        self.process.start()
        self()

    def __call__(self) -> None:
        self.pipe.send("step")
        self.pipe.recv()

    def close(self) -> None:
        self.process.terminate()
        self.process.join()


def serve_plain_steps(pipe: Connection, width: int, head_width: int, device: torch.device) -> None:
    module = Segment(network(width, head_width, J=1).to(device), 0, 1, [1]).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    x: Tensor = torch.randn(BATCH, *CIFAR10.shape, device=device)
    y: Tensor = torch.randint(0, 10, (BATCH,), device=device)
    while pipe.recv():
        optimizer.zero_grad()
        F.cross_entropy(module(x)[0].scores, y).backward()
        optimizer.step()
        synchronise(device)
        pipe.send("done")


def take_turns(loops: Iterable[Callable[[], object]], rounds: int, steps: int, device: torch.device) -> list[float]:
    """Median seconds per step of each loop; they alternate, after one round that does not count."""
    loops = list(loops)
    seconds: list[list[float]] = [[] for _ in loops]
    for _ in range(rounds + 1):
        for loop, times in zip(loops, seconds, strict=True):
            synchronise(device)
            started = time.perf_counter()
            for _ in range(steps):
                loop()
            synchronise(device)
            times.append((time.perf_counter() - started) / steps)
    return [statistics.median(times[1:]) for times in seconds]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
