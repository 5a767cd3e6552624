"""Three overlapping clouds of points in the plane: the toy problem on which greedy pretraining is taught.

scikit-learn draws them, always the same: 500 points to train on and 500 to test on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from layerwise.data.dataset import DatasetSpec

TRAIN_POINTS = 500
SPEC = DatasetSpec(
    name="blobs",
    shape=(2,),
    classes=("0", "1", "2"),
    mean=(),
    std=(),
    train_samples=TRAIN_POINTS,
    test_samples=500,
)


def read() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(points float32 [500, 2], labels [500]) of train and of test."""
    from sklearn.datasets import make_blobs  # slow to import, and needed here only

    points, labels = make_blobs(n_samples=1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    x, y = torch.from_numpy(points).float(), torch.from_numpy(labels).long()
    return (x[:TRAIN_POINTS], y[:TRAIN_POINTS]), (x[TRAIN_POINTS:], y[TRAIN_POINTS:])
