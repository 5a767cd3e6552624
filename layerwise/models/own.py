"""Blocks that a function gives, and heads behind them whose shapes are known only then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import block_costs


def own_blocks(build: Callable[[], Any], J: int, seed: int, name: str) -> list[nn.Module]:
    """Returns the blocks of a function at their initialisation.

    Args:
        build: the function, with its arguments.
        J: number of blocks that it must give.
        name: of the function, for messages.

    Raises:
        LayerwiseError: it gives something else.
    """
    with seeded(key("blocks", seed)):
        built = build()
    if not isinstance(built, Sequence | nn.Sequential | nn.ModuleList):
        raise LayerwiseError(f"{name}: must return a list of blocks, not {type(built).__name__}.")
    blocks = list(built)
    for j, block in enumerate(blocks, 1):
        if not isinstance(block, nn.Module):
            raise LayerwiseError(f"{name}: block {j} must be a torch.nn.Module, not {type(block).__name__}.")
    if len(blocks) != J:
        raise LayerwiseError(f"{name}: returned {len(blocks)} block(s) for J={J}. Return J, or use J={len(blocks)}.")
    return blocks


def own_heads(
    blocks: Sequence[nn.Module],
    shape: Shape,
    depths: Collection[int],
    seed: int,
    build: Callable[[Shape, int, list[nn.Module]], nn.Module],
    name: str,
) -> dict[int, nn.Module]:
    """Returns the heads at some depths at their initialisation, each under a seed of its own.

    Args:
        shape: of x_0.
        build: gives a head, from the shape of x_j, j, and the blocks behind it.
        name: of what builds them, for messages.

    Raises:
        LayerwiseError: a head is no module.
    """
    shapes = [cost.output_shape for cost in block_costs(BlockNet(blocks, {}), shape, torch.float32)]
    heads = {}
    for depth in sorted(depths):
        with seeded(key("head", seed, depth)):
            heads[depth] = build(shapes[depth - 1], depth, list(blocks[depth:]))
        if not isinstance(heads[depth], nn.Module):
            kind = type(heads[depth]).__name__
            raise LayerwiseError(f"{name}: the head at depth {depth} must be a torch.nn.Module, not {kind}.")
    return heads
