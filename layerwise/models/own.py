"""Blocks that a function gives, and heads behind them whose shapes are known only then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from layerwise.core.errors import LayerwiseError, blamed
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.costs import COUNTED_IMAGES, meta_copy


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
        check_sizes_known(block, f"{name}: block {j}")
    if len(blocks) != J:
        raise LayerwiseError(f"{name}: returned {len(blocks)} block(s) for J={J}. Return J, or use J={len(blocks)}.")
    owners: dict[int, int] = {}
    for j, block in enumerate(blocks, 1):
        for parameter in block.parameters():
            if owners.setdefault(id(parameter), j) != j:
                raise LayerwiseError(
                    f"{name}: blocks {owners[id(parameter)]} and {j} share a parameter. Give each its own: a frozen "
                    "block must not change."
                )
    return blocks


def check_sizes_known(module: nn.Module, name: str) -> None:
    """Refuses lazy modules, whose weights have no size before their first batch.

    Raises:
        LayerwiseError: names the module.
    """
    if any(isinstance(parameter, UninitializedParameter) for parameter in module.parameters()):
        raise LayerwiseError(f"{name} has lazy layers, whose sizes are not known. The function is called with shapes.")


def own_heads(
    blocks: Sequence[nn.Module],
    shape: Shape,
    outputs: int,
    depths: Collection[int],
    seed: int,
    build: Callable[[Shape, int, list[nn.Module]], nn.Module],
    names: tuple[str, str],
) -> dict[int, nn.Module]:
    """Returns the heads at some depths at their initialisation, each under a seed of its own.

    Args:
        shape: of x_0.
        outputs: values that a head must give of a sample.
        build: gives a head, from the shape of x_j, j, and the blocks behind it.
        names: of what builds the blocks and of what builds the heads, for messages.

    Raises:
        LayerwiseError: a block does not read what the one before gives, or a head does not map x_j to [B, outputs].
    """
    shapes = output_shapes(blocks, shape, names[0])
    heads, name = {}, names[1]
    inside = {id(parameter): j for j, block in enumerate(blocks, 1) for parameter in block.parameters()}
    for depth in sorted(depths):
        with seeded(key("head", seed, depth)):
            heads[depth] = build(shapes[depth - 1], depth, list(blocks[depth:]))
        if not isinstance(heads[depth], nn.Module):
            kind = type(heads[depth]).__name__
            raise LayerwiseError(f"{name}: the head at depth {depth} must be a torch.nn.Module, not {kind}.")
        told = f"{name}: the head at depth {depth}"
        check_sizes_known(heads[depth], told)
        if held := {inside[id(parameter)] for parameter in heads[depth].parameters() if id(parameter) in inside}:
            raise LayerwiseError(f"{told} holds parameters of block {min(held)}. It may only look at blocks.")
        given = run_on_meta(heads[depth], shapes[depth - 1], told)
        if given != (outputs,):
            raise LayerwiseError(
                f"{told} maps {words_of(shapes[depth - 1])} to {words_of(given)}; it must give [B, {outputs}]."
            )
    return heads


def output_shapes(blocks: Sequence[nn.Module], shape: Shape, name: str) -> list[Shape]:
    """Returns the shapes of x_1 … x_J.

    Args:
        shape: of x_0.
        name: of what built the blocks, for messages.

    Raises:
        LayerwiseError: names the block that does not read its input.
    """
    shapes = []
    for j, block in enumerate(blocks, 1):
        shape = run_on_meta(block, shape, f"{name}: block {j}")
        shapes.append(shape)
    return shapes


def run_on_meta(module: nn.Module, shape: Shape, name: str) -> Shape:
    """Returns the shape of a sample's output, without computing anything.

    Args:
        shape: of a sample of the input.
        name: of the module, for messages.

    Raises:
        LayerwiseError: the module refuses such an input, or returns no tensor [B, …].
    """
    batch = torch.empty(COUNTED_IMAGES, *shape, device="meta")
    with blamed(f"{name}, called with {words_of(shape)}"), torch.no_grad():
        y = meta_copy(module).eval()(batch)
    if not isinstance(y, Tensor) or y.dim() < 1 or len(y) != COUNTED_IMAGES:
        told = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise LayerwiseError(f"{name} must return a tensor [B, …], not {told} for a batch of {COUNTED_IMAGES}.")
    return tuple(y.shape[1:])


def words_of(shape: Shape) -> str:
    """`[B, 3, 32, 32]`."""
    return f"[{', '.join(('B', *map(str, shape)))}]"
