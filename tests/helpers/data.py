"""Tiny data sets of random images."""

from __future__ import annotations

from dataclasses import replace

import torch

from layerwise.data.augment import CropFlip, Cutout
from layerwise.data.dataset import Dataset, DatasetSpec, Resident

CPU = torch.device("cpu")


def tiny_spec(channels: int = 3, size: int = 8) -> DatasetSpec:
    return DatasetSpec(
        name="tiny",
        shape=(channels, size, size),
        classes=("a", "b", "c"),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        padding=2,
        flip=True,
        train_samples=70,
        test_samples=30,
    )


def data_on(device: torch.device) -> Dataset:
    spec = replace(tiny_spec(), alternating=True)
    images = torch.randint(0, 256, (70, 8, 8, 3), dtype=torch.uint8)
    split = Resident(images, torch.randint(0, 3, (70,)), device)
    cutout = Cutout(3, torch.zeros(3, dtype=torch.uint8, device=device))
    return Dataset(spec, {"train": split, "test": split}, CropFlip(2, True, cutout), seed=0, device=device)
