"""Tiny networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Activation
from layerwise.models.heads import CnnHead, Head
from layerwise.models.simcnn import SimCnn, doubled


def simcnn(
    *,
    k: int = 2,
    J: int = 3,
    width: int | Sequence[int] = 8,
    head_width: int | Sequence[int] = 8,
    head: Head | None = None,
    downsample: Sequence[int] = (2,),
    batch_norm: bool = True,
    activation: Activation = Activation.relu,
    **more: Any,
) -> SimCnn:
    """A SimCNN whose widths double, unless there is one for each block."""
    widths, head_widths = (doubled(w, J, downsample) if isinstance(w, int) else w for w in (width, head_width))
    heads = [head or CnnHead(k, M, batch_norm, activation=activation) for M in head_widths]
    return SimCnn(widths, heads, downsample, batch_norm=batch_norm, activation=activation, **more)


def plain_net(*, seed: int = 0, **changes: Any) -> BlockNet:
    """k = 2, J = 3, for images of 3×8×8 and 3 classes."""
    return simcnn(**changes).build((3, 8, 8), 3, seed=seed)


def tiny_net(**changes: Any) -> BlockNet:
    """The same in channels_last, as in a run."""
    return plain_net(**changes).to(memory_format=torch.channels_last)


def convolutions(shape: tuple[int, ...], J: int = 2, width: int | None = None) -> list[nn.Module]:
    """Blocks as a function of another package gives them."""
    channels = [shape[0], *[width or shape[0]] * J]
    return [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels)]
