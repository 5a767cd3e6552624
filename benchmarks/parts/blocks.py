"""Training steps of each block: ours and the plain implementation's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.parts.ceilings import fastest_product
from benchmarks.plain_process import PlainProcess
from benchmarks.steps import BATCH, block_segment, network, precision_on, source_of, stepper, take_turns, trainer_of
from layerwise.config.paper import simcnn_values
from layerwise.data.torchvision_sets import CIFAR10
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import block_costs, meta_copy, step_macs


@dataclass(frozen=True)
class Net:
    """A network whose blocks are measured.

    Attributes:
        k, width, head_width, downsample, J: see `simcnn`.
    """

    k: int
    width: int
    head_width: int
    downsample: tuple[int, ...]
    J: int


def papers_net(k: int) -> Net:
    """The paper's network for CIFAR-10."""
    values = simcnn_values(k)
    return Net(k, values.width, values.head_width, values.downsample, values.J)


NETS = (papers_net(1), papers_net(2), papers_net(3), Net(3, 32, 32, (3,), 4))
"""The paper's three, and that of experiment=laptop_cifar10."""


def measure(device: torch.device, nets: Sequence[Net] = NETS, rounds: int = 2, seconds: float = 1.0) -> Any:
    """Images/s of steps of block j, from uint8 or PIL images to the update, with the frozen blocks recomputed.

    `ours_of_ceiling` and `plain_of_ceiling` are the share of the device's rate of matrix products, measured in turn
    with both in the format that ours computes in, that a step's operations make: forward and backward of block and
    head, forward of the frozen blocks, multiply-accumulates counted as two.
    """
    product = fastest_product(precision_on(device).dtype, device)
    (once,) = take_turns([product], rounds=3, steps=1, device=device)
    products = max(1, round(seconds / 2 / once))
    figures: dict[str, Any] = {}
    for shape in nets:
        net = network(shape.width, shape.head_width, shape.J, shape.k, shape.downsample)
        work = operations(net)
        net.to(device, memory_format=torch.channels_last)
        source = source_of(device)
        with PlainProcess(device, **vars(shape)) as plain:
            for depth in range(1, shape.J + 1):
                if depth > 1:
                    source.advance([net.blocks[depth - 2]])
                ours = stepper(trainer_of(block_segment(net, depth), device), source)
                (once,) = take_turns([ours], rounds=1, steps=1, device=device)
                steps = max(1, round(seconds / once))
                loops = [ours, lambda n, depth=depth: plain.train(depth, n), lambda n: product(products)]
                a, b, p = take_turns(loops, rounds, steps, device)
                ceiling = products * product.operations / (p * steps)
                figures[f"k = {shape.k}, M = {shape.width}, j = {depth}"] = {
                    "ours": BATCH / a,
                    "plain": BATCH / b,
                    "ratio": b / a,
                    "ours_of_ceiling": BATCH * work[depth - 1] / a / ceiling,
                    "plain_of_ceiling": BATCH * work[depth - 1] / b / ceiling,
                }
    return figures


def operations(net: BlockNet) -> list[int]:
    """Floating-point operations that a training step of each block takes for an image, with the blocks before it."""
    on_meta = meta_copy(net)
    trained = [step_macs(on_meta, block_segment(on_meta, depth), CIFAR10.shape) for depth in on_meta.depths]
    forward = [cost.block_macs for cost in block_costs(net, CIFAR10.shape, torch.float32)]
    return [2 * (macs + sum(forward[:j])) for j, macs in enumerate(trained)]
