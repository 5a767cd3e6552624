"""Small photographs in the folders of Imagenette."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from layerwise.data.dataset import Dataset
from layerwise.data.images import imagenet

WNIDS = sorted(imagenet.IMAGENETTE)


def photograph(rng: np.random.Generator) -> Image.Image:
    """A smooth picture of random size, which JPEG keeps recognisable."""
    width, height = (int(side) for side in rng.integers(20, 60, 2))
    return Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height))


def write_imagenette(root: Path) -> Path:
    """Ten class folders with three training images and one held-out image each, in root/imagenette2-160."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 3), ("val", 1)):
        for wnid in WNIDS:
            folder = root / "imagenette2-160" / split / wnid
            folder.mkdir(parents=True)
            for i in range(n):
                photograph(rng).save(folder / f"{wnid}_{i}.JPEG")
    return root


def inputs(data: Dataset, order: torch.Tensor, batch_size: int, view: int | None) -> torch.Tensor:
    return torch.cat([batch.inputs for batch in data.batches("train", order, batch_size, view)])


def break_images(root: Path, n: int) -> list[Path]:
    """Cuts off the first images of the training set."""
    broken = sorted((root / "imagenette2-160" / "train").rglob("*.JPEG"))[:n]
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])
    return broken
