"""The parts `data`, `augment` and `decode` of benchmark.py: from bytes to batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _benchmark_plain import RandomImages, plain
from _benchmark_steps import BATCH, Loop, block_segment, network, reader, source_of, stepper, take_turns, trainer_of
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from layerwise.core.randomness import key, permutation
from layerwise.data.images.class_folders import TRAIN, VAL, ClassFolders
from layerwise.data.images.encoded_images import Cut, EncodedImages
from layerwise.data.images.image_source import open_source
from layerwise.data.images.record_writer import Preparation, RecordWriter
from layerwise.data.images.resized_crop import ResizedCrop


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


LARGE = (500, 375)
"""Pixels: about the mean size of ImageNet's photographs."""


def measure_decode(
    folder: Path | None, device: torch.device, images: int = 512, sizes: Sequence[int] = (64, 128, 224), rounds: int = 5
) -> dict[str, Any]:
    """Images/s of one thread from a warm disk cache to augmented batches on the device, in shuffled order.

    Of the files by torchvision's ImageFolder with its PIL transforms (plain) and by ours, and of records with a short
    side of at most 256 pixels; the ratios are to plain. Also of the same photographs enlarged to 500 × 375 pixels, the
    size of ImageNet's: they have less detail than such, so their JPEGs are smaller and decoded sooner.
    """
    if folder is None:
        print("decode: not measured, it needs --images FOLDER")
        return {}
    figures: dict[str, Any] = {}
    with one_thread(), TemporaryDirectory() as scratch:
        enlarged = Path(scratch, "enlarged")
        enlarge(folder, enlarged, images)
        for name, root in (("as they are", folder), ("enlarged", enlarged)):
            records = Path(scratch, f"{name} as records")
            source, preparation = ClassFolders(root), Preparation(short_side=256, quality=95)
            RecordWriter(source, records, preparation, shard_bytes=10**9, workers=0).write(lambda images: None)
            for size in sizes:
                seconds = take_turns(decoding_loops(root, records, size, images, device), rounds, 1, device)
                plain, files, packed = (images / s for s in seconds)
                figures[f"{name}, {size} pixels"] = {
                    "plain": plain,
                    "ours": files,
                    "records": packed,
                    "ratio": files / plain,
                    "records_ratio": packed / plain,
                }
    return figures


def enlarge(folder: Path, output: Path, images: int) -> None:
    """Writes the first images of each split and class as JPEGs of `LARGE` pixels, about so many for training."""
    classes = ClassFolders(folder).classes
    for split, each in ((TRAIN, -(-images // len(classes))), (VAL, 1)):
        for name in classes:
            (output / split / name).mkdir(parents=True)
            for path in sorted((folder / split / name).iterdir())[:each]:
                with Image.open(path) as image:
                    large = image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC)
                large.save(output / split / name / f"{path.stem}.jpg", quality=95)


def decoding_loops(folder: Path, records: Path, size: int, images: int, device: torch.device) -> list[Loop]:
    """torchvision's way through the same images of a folder, ours, and ours through its records, in this process."""
    cut = Cut(size, short_side=size * 8 // 7, resized_crop=ResizedCrop(size, seed=0))
    ours, packed = (EncodedImages.of(open_source(root).images(TRAIN), cut, device, 0) for root in (folder, records))
    chosen = permutation(key("benchmark"), len(ours))[:images]
    ours, packed = ours.take(chosen), packed.take(chosen)
    batches = torch.arange(images).split(BATCH)
    textbook = transforms.Compose(
        [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    theirs = DataLoader(Subset(ImageFolder(str(folder / TRAIN), textbook), chosen.tolist()), BATCH)
    return [
        lambda n: [[(x.to(device), y.to(device)) for x, y in theirs] for _ in range(n)],
        lambda n: [list(ours.read(batches, view=0)) for _ in range(n)],
        lambda n: [list(packed.read(batches, view=0)) for _ in range(n)],
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
