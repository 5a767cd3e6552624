"""From encoded images to augmented batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.steps import BATCH, Loop, one_thread, take_turns
from layerwise.core.randomness import key, permutation
from layerwise.data.images.encoded import Cut, EncodedImages
from layerwise.data.images.folders import TRAIN, VAL, ClassFolders, open_source
from layerwise.data.images.record_writer import Preparation, RecordWriter
from layerwise.data.images.resized_crop import ResizedCrop

LARGE = (500, 375)
"""Pixels: about the mean size of ImageNet's photographs."""


def measure(
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
