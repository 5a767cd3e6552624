"""The parts `data`, `augment` and `decode` of benchmark.py: from bytes to batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from _benchmark_plain import RandomImages, plain
from _benchmark_steps import BATCH, Loop, block_segment, network, reader, source_of, stepper, take_turns, trainer_of
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from layerwise.counters import key, permutation
from layerwise.data.class_folders import TRAIN, list_images
from layerwise.data.encoded_images import Cut, FolderImages
from layerwise.data.resized_crop import ResizedCrop


def measure_data(device: torch.device) -> dict[str, Any]:
    """Seconds for a batch's data and augmentation, against a whole step of block 1 at full width."""
    net = network(128, 256, J=1).to(device, memory_format=torch.channels_last)
    source = source_of(device)
    whole = stepper(trainer_of(block_segment(net, 1), device), source)
    step, data = take_turns([whole, reader(source)], rounds=5, steps=2, device=device)
    return {"data_seconds": data, "step_seconds": step, "share": data / step}


def measure_augment(device: torch.device, images: int = 2048, rounds: int = 5) -> dict[str, Any]:
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


def measure_decode(folder: Path | None) -> dict[str, Any]:
    """Images/s of one thread from JPEG files to cropped and flipped batches of uint8 (ours) or float (theirs)."""
    if folder is None:
        print("decode: not measured, it needs --images FOLDER")
        return {}
    figures: dict[str, Any] = {}
    images = 512
    with one_thread():
        for size in (64, 128):
            loops = decoding_loops(folder / TRAIN, size, images)
            a, b = take_turns(loops, rounds=7, steps=1, device=torch.device("cpu"))
            figures[f"{size} pixels"] = {"ours": images / a, "torchvision": images / b, "ratio": b / a}
    return figures


def decoding_loops(folder: Path, size: int, images: int) -> list[Loop]:
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
    return [
        lambda n: [list(ours.read(batches, view=0)) for _ in range(n)],
        lambda n: [list(theirs) for _ in range(n)],
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which PyTorch computes in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
