"""Samples that a function of another package gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerwise.core.errors import LayerwiseError
from layerwise.core.machine import HOST, available_memory
from layerwise.data.dataset import DatasetSpec, merged_by_float32
from layerwise.data.reader import InMemory, Pair

Part = tuple[Tensor, Tensor] | Sequence[tuple[Any, Any]]
"""Values and labels, or a map-style data set of pairs."""


@dataclass(frozen=True)
class Samples:
    """Training and test samples in memory. `checked_samples` makes the parts tensors.

    Attributes:
        train, test: each a `Part`: images uint8 [N, H, W, C] or vectors float [N, F], and labels int64 [N]; or a
            map-style data set.
        classes: names; by default the labels.
        padding: most pixels that a crop in training is shifted by; 0 for none.
        flip: whether half of the views of a training image are mirrored.
        squashed: whether images of other proportions were resized to these, as `predict` then does, too.
    """

    train: Any
    test: Any
    classes: Sequence[str] = ()
    padding: int = 0
    flip: bool = False
    squashed: bool = False


@dataclass(frozen=True)
class Own(InMemory):
    """A data set of another package.

    Args:
        name: in tables and folder names.
        samples: from `checked_samples`.
    """

    name: str
    samples: Samples

    def tensors(self) -> tuple[Pair, Pair]:
        return self.samples.train, self.samples.test

    def spec(self) -> DatasetSpec:
        given, ((values, labels), (_, test_labels)) = self.samples, self.tensors()
        classes = tuple(given.classes) or tuple(map(str, range(int(max(labels.max(), test_labels.max())) + 1)))
        mean: tuple[float, ...] = ()
        std: tuple[float, ...] = ()
        shape = tuple(values.shape[1:])
        if values.dim() == 4:
            mean, std = _statistics(values)
            shape = (shape[2], *shape[:2])
        counts = len(labels), len(test_labels)
        return DatasetSpec(
            self.name,
            shape,
            classes,
            mean,
            std,
            *counts,
            padding=given.padding,
            flip=given.flip,
            squashed=given.squashed,
        )


def checked_samples(given: Any, name: str) -> Samples:
    """Returns what a function gave as samples whose parts are tensors.

    Args:
        name: of the function, for messages.

    Raises:
        LayerwiseError: names what is wrong with them.
    """
    if not isinstance(given, Samples):
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise LayerwiseError(f"{name}: must return (train, test) or Samples, not {type(given).__name__}.")
        given = Samples(*given)
    train, test = (_tensors(part, f"{name}: {what}") for part, what in ((given.train, "train"), (given.test, "test")))
    if train[0].dim() == test[0].dim() == 2:
        train, test = _narrowed(train, test)
    if train[0].shape[1:] != test[0].shape[1:] or train[0].dtype != test[0].dtype:
        raise LayerwiseError(f"{name}: train {_told(train[0])} and test {_told(test[0])} differ in shape or type.")
    largest = int(max(train[1].max(), test[1].max()))
    if missing := sorted(set(test[1].tolist()) - set(train[1].tolist())):
        raise LayerwiseError(f"{name}: label {missing[0]} is in test but not in train.")
    if not given.classes and int(train[1].min()) > 0:
        raise LayerwiseError(f"{name}: the smallest label is {int(train[1].min())}; labels count from 0.")
    if given.classes and largest >= len(given.classes):
        raise LayerwiseError(f"{name}: there is a label {largest} for {len(given.classes)} classes.")
    checked: Samples = replace(given, train=train, test=test)
    return checked


def _tensors(part: Any, name: str) -> tuple[Tensor, Tensor]:
    """Values and labels of a part."""
    pair = isinstance(part, tuple) and len(part) == 2
    values, labels = part if pair else _stacked(part, name)
    values, labels = torch.as_tensor(values), torch.as_tensor(labels)
    if not (values.dtype == torch.uint8 and values.dim() == 4) and not (
        values.is_floating_point() and values.dim() == 2
    ):
        raise LayerwiseError(
            f"{name}: values are {_told(values)}; give images as uint8 [N, H, W, C] or vectors as float [N, F]."
        )
    if values.dim() == 4 and values.shape[3] not in (1, 2, 3, 4) and values.shape[1] in (1, 3):
        raise LayerwiseError(f"{name}: values are {_told(values)}, with channels first; give images as [N, H, W, C].")
    if not len(values):
        raise LayerwiseError(f"{name}: has no samples.")
    if labels.dim() != 1 or len(labels) != len(values) or not len(labels) or labels.is_floating_point():
        raise LayerwiseError(f"{name}: labels are {_told(labels)}; give whole numbers [N], one for each sample.")
    if int(labels.min()) < 0:
        raise LayerwiseError(f"{name}: there is a label {int(labels.min())}; labels count from 0.")
    if values.dim() == 2 and not (finite := values.isfinite()).all():
        i, j = (int(x) for x in (~finite).nonzero()[0])
        raise LayerwiseError(f"{name}: sample {i}, feature {j} is {float(values[i, j])}; give finite numbers.")
    return values, labels.long()


def _stacked(samples: Any, name: str) -> Pair:
    """Values and labels of a map-style data set."""
    try:
        if not (count := len(samples)):
            raise LayerwiseError(f"{name}: has no samples.")
        first = _value(samples[0][0])
        check_memory(count, first.nbytes, name)
        values, labels = first.new_empty(count, *first.shape), torch.empty(count, dtype=torch.int64)
        for i in range(count):
            value, label = samples[i]
            if (value := _value(value)).shape != first.shape or not torch.can_cast(value.dtype, first.dtype):
                raise ValueError(f"sample {i} is {_told(value)}, the first is {_told(first)}")
            values[i], labels[i] = value, whole(label)
        return values, labels
    except (TypeError, ValueError, RuntimeError) as error:
        raise LayerwiseError(
            f"{name}: is no data set of samples of one shape with labels: {type(error).__name__}: {error}."
        ) from error


def whole(label: Any) -> int:
    """Returns a label as a whole number.

    Raises:
        ValueError, TypeError: it is none.
    """
    if int(label) != float(label):
        raise ValueError(f"the label {float(label)} is no whole number")
    return int(label)


def _narrowed(*parts: Pair) -> list[Pair]:
    """The parts with values float32 [N, F], or float64 where float32 would merge values before they are scaled."""
    exact = any(v.dtype == torch.float64 and bool(merged_by_float32(v).any()) for v, _ in parts)
    return [(values.double() if exact else values.float(), labels) for values, labels in parts]


def check_memory(count: int, size: int, name: str) -> None:
    """Refuses samples that do not fit into memory, before they are read.

    Args:
        count: of samples.
        size: bytes of each.

    Raises:
        LayerwiseError: names what holds more than memory does.
    """
    needed, free = 2 * count * size, available_memory(HOST)  # once as they come, and once in a random order
    if needed > free:
        raise LayerwiseError(
            f"{name}: {count} samples of {size} bytes are held in memory, twice while they are shuffled: "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. Write them as image files and use "
            "dataset=imagefolder, which reads from the disk (layerwise prepare_data makes records of them), or give "
            "fewer or smaller ones."
        )


def _value(value: Any) -> Tensor:
    """A vector [F], or an image [H, W, C]."""
    if isinstance(value, Tensor):
        return value.permute(1, 2, 0) if value.dim() == 3 else value  # torch has channels first
    if type(value).__module__.startswith("PIL.") and value.mode not in ("L", "LA", "RGB", "RGBA"):
        value = _colours(value)
    array = torch.from_numpy(np.array(value))
    return array[..., None] if array.dim() == 2 else array


def _colours(image: Any) -> Any:
    """A PIL image of another mode as one of L or RGB: the values of a palette are its indices, not colours."""
    from layerwise.data.images.decoding import UnreadableImage, grey_or_colours

    try:
        return grey_or_colours(image)
    except UnreadableImage as error:
        raise ValueError(str(error)) from error


def _told(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of images uint8 [N, H, W, C], in [0, 1]."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.reshape(-1, images.shape[3]).unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / len(channel)
        mean = float((share * levels).sum())
        means.append(mean)
        deviations.append(float((share * (levels - mean).square()).sum().sqrt()) or 1.0)
    return tuple(means), tuple(deviations)
