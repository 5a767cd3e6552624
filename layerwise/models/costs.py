"""What a network costs before it is trained: shapes, parameters, multiply-accumulates, sizes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from layerwise.core.types import Shape, Target
from layerwise.models.blocknet import BlockNet, Segment, count_parameters
from layerwise.models.readout import TrainingHead

M = TypeVar("M", bound=nn.Module)

COUNTED_IMAGES = 2
"""A batch norm in training refuses a single image whose features have one position."""


@dataclass(frozen=True)
class BlockCost:
    """One block and its head, for one image.

    Attributes:
        block: depth j, from 1.
        output_shape: of x_j, (C, H, W).
        block_parameters, head_parameters: head 0 where the depth has none.
        block_macs, head_macs: multiply-accumulates of convolutions and linear layers.
        activation_bytes: of x_j in the format that it is computed in.
        decoder_macs: of the decoder; 0 where the depth has none.
        embedding_macs: of the layers of a head that only training runs.
    """

    block: int
    output_shape: Shape
    block_parameters: int
    head_parameters: int
    block_macs: int
    head_macs: int
    activation_bytes: int
    decoder_macs: int = 0
    embedding_macs: int = 0

    def reader_macs(self, target: Target, training: bool = False) -> int:
        """Multiply-accumulates of a forward pass of what predicts a target at this depth: the head, or the decoder."""
        if target == "inputs":
            return self.decoder_macs
        return self.head_macs + (self.embedding_macs if training else 0)


def block_costs(network: BlockNet, image_shape: Shape, dtype: torch.dtype) -> list[BlockCost]:
    """Costs of all blocks, found without computing anything (meta tensors).

    Args:
        network: on any device; it is not changed.
        image_shape: (C, H, W) of x_0.
    """
    costs = []
    x = torch.empty(1, *image_shape, device="meta")
    for depth, block in enumerate(network.blocks, 1):
        x, block_macs = _run_on_meta(block, x)
        head = network.head(depth) if depth in network.depths else None
        decoder = dict(network.decoders.items()).get(str(depth))
        costs.append(
            BlockCost(
                block=depth,
                output_shape=tuple(x.shape[1:]),
                block_parameters=count_parameters(block),
                head_parameters=count_parameters(head) if head else 0,
                block_macs=block_macs,
                head_macs=_run_on_meta(head, x)[1] if head else 0,
                activation_bytes=prod(x.shape[1:]) * dtype.itemsize,
                decoder_macs=_run_on_meta(decoder, x)[1] if decoder else 0,
                embedding_macs=_macs_of_training_alone(head, x) if isinstance(head, TrainingHead) else 0,
            )
        )
    return costs


def step_macs(network: BlockNet, segment: Segment, image_shape: Shape) -> int:
    """Multiply-accumulates per image of forward and backward of a segment; its input needs no gradient.

    Args:
        network: of the segment, on the meta device.
        image_shape: (C, H, W) of x_0.
    """
    with torch.no_grad():
        x = network.eval().features(torch.empty(COUNTED_IMAGES, *image_shape, device="meta"), segment.start)
    with FlopCounterMode(display=False) as counter:
        outputs = [output for readout in segment.train()(x) for output in readout if output is not None]
        torch.stack([output.sum() for output in outputs]).sum().backward()
    macs: int = counter.get_total_flops() // (2 * COUNTED_IMAGES)
    return macs


def total_parameters(costs: Sequence[BlockCost]) -> int:
    """Parameters of the final network: all blocks and the last head."""
    return sum(cost.block_parameters for cost in costs) + costs[-1].head_parameters


def meta_copy(module: M) -> M:
    """A copy of a module on the meta device: shapes without values. Unlike `deepcopy`, it copies no weights."""
    copies: dict[int, Any] = {id(b): b.to("meta") for b in module.buffers()}
    for p in module.parameters():
        copies[id(p)] = nn.Parameter(p.detach().to("meta"), p.requires_grad)
    return copy.deepcopy(module, copies)


def _macs_of_training_alone(head: TrainingHead, x: torch.Tensor) -> int:
    on_meta = meta_copy(head).eval()
    with FlopCounterMode(display=False) as all_said, torch.no_grad():
        on_meta.read(x, x)
    macs: int = all_said.get_total_flops() // 2 - _run_on_meta(head, x)[1]
    return macs


def _run_on_meta(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, int]:
    on_meta = meta_copy(module).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        y = on_meta(x)
    return y, counter.get_total_flops() // 2  # it counts a multiply-accumulate as two
