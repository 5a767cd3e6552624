"""torch.compile for batches of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def compile_for(images: int | None, function: Callable[..., Result]) -> Callable[..., Result]:
    """The function of some batched tensors, through torch.compile for batches of one size; None: for none.

    Other sizes run as they are: an epoch has one such batch, and a function that is compiled for all sizes is slower.
    Modules that differ in nothing but their weights share what is compiled.
    """
    if images is None:
        return function
    fast = torch.compile(function, dynamic=False)

    def choose(batch: Tensor, *others: Tensor) -> Result:
        return (fast if len(batch) == images else function)(batch, *others)

    return choose
