"""scikit-learn's handwritten digits: 1,797 real images of 8×8 pixels that come with the package."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from layerwise.core.randomness import key
from layerwise.data.dataset import DatasetSpec
from layerwise.data.split import balanced_order

TEST_IMAGES = 360
SPEC = DatasetSpec(
    name="digits",
    shape=(1, 8, 8),
    classes=tuple("0123456789"),
    mean=(0.3053,),
    std=(0.3760,),
    padding=1,
    flip=False,
    train_samples=1797 - TEST_IMAGES,
    test_samples=TEST_IMAGES,
)


def read(root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images uint8 [N, 8, 8, 1], labels [N]) of train (1,437) and test (360).

    The package has one set only; 360 class-balanced images are set apart for testing, always the same.
    """
    from sklearn.datasets import load_digits  # slow to import, and needed here only

    bunch = load_digits()
    images = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)[..., None]
    labels = torch.from_numpy(bunch.target).long()
    order = balanced_order(labels, key("digits", "test"))
    test, train = order[:TEST_IMAGES].sort().values, order[TEST_IMAGES:].sort().values
    return (images[train], labels[train]), (images[test], labels[test])
