"""torch.compile for batches of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def compile_for(images: int | None, function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile a function of batched tensors for batches of `images` samples; with None return it unchanged.

    Batches of another size run uncompiled: an epoch has one of them, and a function compiled for every size is slower.
    Modules that differ only in their weights share the compiled code.
    """
    if images is None:
        return function
    fast = torch.compile(function, dynamic=False)

    def choose(batch: Tensor, *others: Tensor) -> Result:
        return (fast if len(batch) == images else function)(batch, *others)

    return choose
