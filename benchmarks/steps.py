"""What the parts share: networks, data, single training steps, and loops that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import TypeVar

import torch

from layerwise.core.choices import PrecisionName
from layerwise.core.precision import Precision, choose_precision
from layerwise.core.types import Batch
from layerwise.data.augment import CropFlip
from layerwise.data.dataset import Dataset, Resident
from layerwise.data.torchvision_sets import CIFAR10
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute, Source
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.models.heads import CnnHead
from layerwise.models.simcnn import SimCnn, doubled
from layerwise.training.objectives import LocalLoss
from layerwise.training.optim import Constant, sgd
from layerwise.training.recipe import Recipe
from layerwise.training.step import CudaGraph
from layerwise.training.trainer import StageTrainer

BATCH = 128
K, T = TypeVar("K", bound=Hashable), TypeVar("T")
Loop = Callable[[int], object]
"""Does so many steps."""


def network(width: int, head_width: int, J: int, k: int = 3, downsample: Sequence[int] | None = None) -> BlockNet:
    """A SimCNN for CIFAR-10; by default block 3 is downsampled, if there is one."""
    downsample = ([3] if J >= 3 else []) if downsample is None else downsample
    heads = [CnnHead(k, M, batch_norm=k > 1) for M in doubled(head_width, J, downsample)]
    architecture = SimCnn(doubled(width, J, downsample), heads, downsample, batch_norm=k > 1)
    return architecture.build(CIFAR10.shape, len(CIFAR10.classes))


def images_on(device: torch.device, n: int, augment: bool) -> Dataset:
    """n random images of CIFAR-10's shape, for training as for testing."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator)
    split = Resident(images, torch.randint(0, 10, (n,), generator=generator), device)
    crop_flip = CropFlip(CIFAR10.padding, CIFAR10.flip) if augment else None
    return Dataset(CIFAR10, {"train": split, "test": split}, crop_flip, 0, device, augmented=augment)


def precision_on(device: torch.device) -> Precision:
    """What `precision=auto` takes."""
    return choose_precision(PrecisionName.auto, device)


def source_of(device: torch.device, images: int = 50_000) -> Recompute:
    """Augmented images, by default as many as in a real epoch."""
    return Recompute(images_on(device, images, augment=True), BatchPlan(BATCH, seed=0), precision_on(device))


def block_segment(net: BlockNet, depth: int) -> Segment:
    """Block `depth` and its head."""
    return Segment(net, depth - 1, depth, [depth])


def trainer_of(
    segment: Segment, device: torch.device, compiled: bool | None = None, recorded: bool | None = None
) -> StageTrainer:
    """A trainer of a segment with the paper's optimiser, that never comes to its end.

    Args:
        compiled: through torch.compile; None: on a GPU.
        recorded: steps are replayed as a CUDA graph; None: on a GPU.
    """
    on_gpu = device.type == "cuda"
    compiled_for = BATCH if (on_gpu if compiled is None else compiled) else None
    graph = CudaGraph(device) if (on_gpu if recorded is None else recorded) else None
    segment.requires_grad_(True)
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
    trainer = StageTrainer(
        0, segment, LocalLoss(), optimizer, recipe, precision_on(device), compiled_for=compiled_for, graph=graph
    )
    segment.train()
    return trainer


def endless(source: Source) -> Iterator[Batch]:
    """Full batches, epoch after epoch."""
    for epoch in cycle(range(50)):
        yield from (batch for batch in source.train(0, epoch) if len(batch.targets) == BATCH)


def stepper(trainer: StageTrainer, source: Source) -> Loop:
    """Training steps with their data."""
    batches = endless(source)

    def loop(steps: int) -> None:
        for _ in range(steps):
            trainer._train_step(*next(batches))

    return loop


def reader(source: Source) -> Loop:
    """The data of training steps alone."""
    batches = endless(source)

    def loop(steps: int) -> None:
        for _ in range(steps):
            next(batches)

    return loop


def take_turns(loops: Sequence[Loop], rounds: int, steps: int, device: torch.device) -> list[float]:
    """Median seconds per step of each loop."""
    timed = {number: partial(seconds_of, partial(loop, steps), device) for number, loop in enumerate(loops)}
    return [statistics.median(seconds) / steps for seconds in in_turns(timed, rounds).values()]


def in_turns(measured: Mapping[K, Callable[[], T]], rounds: int) -> dict[K, list[T]]:
    """What the functions return; they alternate for some rounds, after one that does not count."""
    found: dict[K, list[T]] = {name: [] for name in measured}
    for _ in range(rounds + 1):
        for name, measure in measured.items():
            found[name].append(measure())
    return {name: values[1:] for name, values in found.items()}


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """How long something takes, with what the device does for it."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which PyTorch computes in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
