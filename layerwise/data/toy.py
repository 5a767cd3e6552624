"""Data sets that scikit-learn brings along: handwritten digits, and clouds of points in the plane."""

from __future__ import annotations

import torch

from layerwise.core.randomness import key
from layerwise.data.dataset import DatasetSpec
from layerwise.data.reader import InMemory, Pair
from layerwise.data.split import balanced_order

DIGITS_TEST_IMAGES = 360
DIGITS = DatasetSpec(
    name="digits",
    shape=(1, 8, 8),
    classes=tuple("0123456789"),
    mean=(0.3053,),
    std=(0.3760,),
    padding=1,
    flip=False,
    train_samples=1797 - DIGITS_TEST_IMAGES,
    test_samples=DIGITS_TEST_IMAGES,
)

BLOBS_TRAIN_POINTS = 500
BLOBS = DatasetSpec(
    name="blobs",
    shape=(2,),
    classes=("0", "1", "2"),
    mean=(),
    std=(),
    train_samples=BLOBS_TRAIN_POINTS,
    test_samples=500,
)


class Digits(InMemory):
    """`dataset=digits`."""

    def spec(self) -> DatasetSpec:
        return DIGITS

    def tensors(self) -> tuple[Pair, Pair]:
        return read_digits()


class Blobs(InMemory):
    """`dataset=blobs`."""

    def spec(self) -> DatasetSpec:
        return BLOBS

    def tensors(self) -> tuple[Pair, Pair]:
        return read_blobs()


def read_digits() -> tuple[Pair, Pair]:
    """(images uint8 [N, 8, 8, 1], labels int64 [N]) of train (1,437) and test (360).

    scikit-learn has one set only; the same 360 class-balanced images are always set apart for testing.
    """
    from sklearn.datasets import load_digits  # slow to import, and needed here only

    bunch = load_digits()
    images = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)[..., None]
    labels = torch.from_numpy(bunch.target).long()
    order = balanced_order(labels, key("digits", "test"))
    test, train = order[:DIGITS_TEST_IMAGES].sort().values, order[DIGITS_TEST_IMAGES:].sort().values
    return (images[train], labels[train]), (images[test], labels[test])


def read_blobs() -> tuple[Pair, Pair]:
    """(points float32 [500, 2], labels int64 [500]) of train and of test: three overlapping clouds, always the same.

    Greedy pretraining is often taught on this problem.
    """
    from sklearn.datasets import make_blobs  # slow to import, and needed here only

    points, labels = make_blobs(n_samples=1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    x, y = torch.from_numpy(points).float(), torch.from_numpy(labels).long()
    return (x[:BLOBS_TRAIN_POINTS], y[:BLOBS_TRAIN_POINTS]), (x[BLOBS_TRAIN_POINTS:], y[BLOBS_TRAIN_POINTS:])
