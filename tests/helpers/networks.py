"""Tiny networks."""

from __future__ import annotations

from typing import Any

import torch

from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Downsampling
from layerwise.models.simcnn import simcnn


def tiny_net(**changes: Any) -> BlockNet:
    """k = 2, J = 3, in channels_last as in a run."""
    return plain_net(**changes).to(memory_format=torch.channels_last)


def plain_net(**changes: Any) -> BlockNet:
    options: dict[str, Any] = {
        "k": 2,
        "J": 3,
        "width": 8,
        "head_width": 8,
        "downsample": [2],
        "downsampling": Downsampling.invertible,
        "batch_norm": True,
    }
    return simcnn((3, 8, 8), 3, **options | changes)
