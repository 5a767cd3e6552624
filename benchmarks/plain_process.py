"""benchmarks/plain.py in a process of its own, which none of our settings reach."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from types import TracebackType
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


class PlainProcess:
    """The plain implementation's epochs; it computes while the caller waits, and rests while it does not.

    What is asked for is a whole epoch of few steps: when it begins, no image is prepared yet, and when it ends, none
    is left to be prepared in the time of others. Only the processes for the data stay, since real epochs are long.

    Args:
        shape: arguments of `plain.network`.
    """

    def __init__(self, device: torch.device, **shape: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, shape, device))
        self.process.start()
        theirs.close()

    def train(self, depth: int, steps: int) -> None:
        """Trains block `depth` and its head for some steps."""
        self._ask("train", depth, steps)

    def evaluate(self, depth: int, images: int) -> None:
        """Scores some images at a depth."""
        self._ask("evaluate", depth, images)

    def __enter__(self) -> PlainProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pipe.close()
        self.process.join()

    def _ask(self, *request: object) -> None:
        self.pipe.send(request)
        self.pipe.recv()


def serve(pipe: Connection, shape: dict[str, Any], device: torch.device) -> None:
    """Answers requests until the other end is closed."""
    net = plain.network(**shape).to(device)
    torch.backends.cudnn.benchmark = True
    optimizers = {depth: plain.sgd(net, depth, lr=0.01) for depth in net.depths}
    loaders: dict[tuple[str, int], DataLoader[Any]] = {}
    while True:
        try:
            task, depth, n = pipe.recv()
        except EOFError:
            return
        if (task, n) not in loaders:
            loaders[task, n] = train_loader(n) if task == "train" else test_loader(n)
        if task == "train":
            net.requires_grad_(False)
            net.blocks[depth - 1].requires_grad_(True)
            net.head(depth).requires_grad_(True)
            plain.train_epoch(net, depth, optimizers[depth], loaders[task, n], device)
        else:
            plain.evaluate(net, depth, loaders[task, n], device)
        pipe.send("done")


def train_loader(steps: int, batch_size: int = 128) -> DataLoader[Any]:
    """Shuffled epochs of some steps."""
    images = RandomImages(plain.TRAIN)
    chosen = Subset(images, [i % len(images) for i in range(steps * batch_size)])
    return DataLoader(chosen, batch_size, shuffle=True, num_workers=plain.WORKERS, persistent_workers=True)


def test_loader(images: int) -> DataLoader[Any]:
    """Images to be scored."""
    chosen = RandomImages(plain.TEST, images)
    return DataLoader(chosen, 256, num_workers=min(2, plain.WORKERS), persistent_workers=True)
