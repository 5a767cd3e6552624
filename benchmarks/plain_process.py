"""benchmarks/plain.py in a process of its own, which none of our settings reach."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks import plain

IMAGES = 4096


class RandomImages(Dataset[tuple[Tensor, int]]):
    """Random PIL images of CIFAR-10's shape, as torchvision's data set gives them."""

    def __init__(self, transform: Any, n: int = IMAGES) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator).numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[i])), i % 10


class PlainProcess(ProcessPoolExecutor):
    """The plain implementation's epochs; it computes while the caller waits, and rests while it does not.

    What is asked for is a whole epoch of few steps: when it begins, no image is prepared yet, and when it ends, none
    is left to be prepared in the time of others. Only the processes for the data stay, since real epochs are long.

    Args:
        shape: arguments of `plain.network`.
    """

    def __init__(self, device: torch.device, **shape: Any) -> None:
        super().__init__(1, multiprocessing.get_context("spawn"), initializer=begin, initargs=(device, shape))

    def train(self, depth: int, steps: int) -> None:
        """Trains block `depth` and its head for some steps."""
        self.submit(train, depth, steps).result()

    def evaluate(self, depth: int, images: int) -> None:
        """Scores some images at a depth."""
        self.submit(evaluate, depth, images).result()


def begin(device: torch.device, shape: dict[str, Any]) -> None:
    """Builds what the process keeps between two requests: the network, and an optimiser of each block."""
    global _device, _net, _optimizers
    torch.backends.cudnn.benchmark = True
    _device, _net = device, plain.network(**shape).to(device)
    _optimizers = {depth: plain.sgd(_net, depth, lr=0.01) for depth in _net.depths}


def train(depth: int, steps: int) -> None:
    _net.requires_grad_(False)
    _net.blocks[depth - 1].requires_grad_(True)
    _net.head(depth).requires_grad_(True)
    plain.train_epoch(_net, depth, _optimizers[depth], train_loader(steps), _device)


def evaluate(depth: int, images: int) -> None:
    plain.evaluate(_net, depth, test_loader(images), _device)


@cache
def train_loader(steps: int, batch_size: int = 128) -> DataLoader[Any]:
    """Shuffled epochs of some steps."""
    images = RandomImages(plain.TRAIN)
    chosen = Subset(images, [i % len(images) for i in range(steps * batch_size)])
    return DataLoader(chosen, batch_size, shuffle=True, num_workers=plain.WORKERS, persistent_workers=True)


@cache
def test_loader(images: int) -> DataLoader[Any]:
    """Images to be scored."""
    chosen = RandomImages(plain.TEST, images)
    return DataLoader(chosen, 256, num_workers=min(2, plain.WORKERS), persistent_workers=True)
