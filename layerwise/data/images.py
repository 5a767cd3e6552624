"""Image data on the device: uint8 pixels, batched gathers, augmentation and normalisation there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from layerwise.counters import bits, key
from layerwise.data.augment import CropFlip
from layerwise.types import Batch

SplitName = Literal["train", "validation", "test"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before it is read.

    Attributes:
        shape: (C, H, W) of an image.
        classes: names of the classes.
        mean, std: per channel, of pixel values in [0, 1].
        padding: of the random crop in training; 0 for none.
        flip: whether training images are mirrored at random.
        train_images, test_images: how many there are.
        resized_crop: training images are random resized crops, made while they are decoded.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    flip: bool
    train_images: int
    test_images: int
    resized_crop: bool = False

    @property
    def augmented(self) -> bool:
        """Whether views of a training image differ."""
        return self.padding > 0 or self.flip or self.resized_crop

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> DatasetSpec:
        """What `to_json` gave."""
        values: dict[str, Any] = json.loads(text)
        tuples: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**tuples)


class Split(Protocol):
    """Images of one split, wherever they lie."""

    labels: Tensor  # [N] int64, on the device
    samples: Tensor  # [N] int64, on the device: numbers in the full data set, which key the augmentation

    def __len__(self) -> int: ...

    def take(self, positions: Tensor) -> Split:
        """The split that holds the images at some positions, in that order."""

    def pixels(self, batches: Sequence[Tensor], view: int | None = None) -> Iterator[Tensor]:
        """For each tensor of positions [B], the images uint8 [B, H, W, C] on the device.

        Args:
            batches: positions.
            view: of the augmentation, where a split augments while it decodes; None for none.
        """


class ResidentImages:
    """A split held whole on the device as uint8, so that a batch is one gather.

    Args:
        images: [N, H, W, C] uint8.
        labels: [N] int64.
        device: where both go.
        samples: numbers of the images in the full data set; 0 … N−1 by default.
    """

    def __init__(self, images: Tensor, labels: Tensor, device: torch.device, samples: Tensor | None = None) -> None:
        self.images = images.to(device)
        self.labels = labels.to(device)
        self.samples = torch.arange(len(labels), device=device) if samples is None else samples
        self.device = device

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Tensor) -> ResidentImages:
        positions = positions.to(self.device)
        return ResidentImages(self.images[positions], self.labels[positions], self.device, self.samples[positions])

    def pixels(self, batches: Sequence[Tensor], view: int | None = None) -> Iterator[Tensor]:
        for positions in batches:
            yield self.images.index_select(0, positions)


class ImageData:
    """Train, test and (where held out) validation images, and how a batch of them is prepared.

    Args:
        spec: names, shape and statistics.
        splits: "train", "test" and perhaps "validation".
        augment: random crop and flip of training images on the device; None where there is none, or where
            the splits augment while they decode.
        seed: of the augmentation on the device.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        splits: dict[SplitName, Split],
        augment: CropFlip | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.splits = splits
        self.augment = augment
        self.seed = seed
        self.device = device
        mean, std = (torch.tensor(v, device=device).view(-1) for v in (spec.mean, spec.std))
        self._scale, self._shift = 1 / (255 * std), -mean / std  # (x/255 − mean) / std = x·scale + shift

    def batches(self, split: SplitName, order: Tensor, batch_size: int, view: int | None = None) -> Iterator[Batch]:
        """Batches of normalised images.

        Args:
            split: which images.
            order: [n] positions in the split, on the device; the last batch may be smaller.
            batch_size: images per batch.
            view: augments with the draws of this view; None leaves the images as they are.
        """
        images = self.splits[split]
        parts: Sequence[Tensor] = order.split(batch_size)
        for positions, pixels in zip(parts, images.pixels(parts, view), strict=True):
            if self.augment is not None and view is not None:
                pixels = self.augment(pixels, self._draws(view, images.samples[positions]))
            yield Batch(self.normalise(pixels), images.labels[positions])

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, C] → float32 [B, C, H, W] in channels_last, mean 0 and deviation 1 over the data."""
        return (pixels.float().mul_(self._scale).add_(self._shift)).permute(0, 3, 1, 2)

    def _draws(self, view: int, samples: Tensor) -> Tensor:
        """[B] random bits that depend on nothing but the seed, the view and the sample."""
        return bits(key("augment", self.seed, view), samples)
