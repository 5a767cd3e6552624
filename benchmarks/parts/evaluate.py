"""Scoring images with a whole network."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.plain_process import PlainProcess
from benchmarks.steps import block_segment, network, precision_on, source_of, take_turns
from layerwise.training.evaluate import predict


def measure(device: torch.device, width: int = 32, images: int = 2560, rounds: int = 5) -> dict[str, Any]:
    """Images/s from uint8 or PIL images to the scores of the last of four blocks of the k = 3 network.

    Args:
        width: M and M̃; 32 is that of experiment=laptop_cifar10.
    """
    depth = 4
    net = network(width, width, depth).to(device, memory_format=torch.channels_last)
    source = source_of(device, images)
    source.advance(list(net.blocks[: depth - 1]))
    segment, precision = block_segment(net, depth), precision_on(device)
    with PlainProcess(device, k=3, J=depth, width=width, head_width=width, downsample=[3]) as plain:
        ours, theirs = take_turns(
            [
                lambda n: [predict(segment, source.evaluate("test"), precision) for _ in range(n)],
                lambda n: [plain.evaluate(depth, images) for _ in range(n)],
            ],
            rounds=rounds,
            steps=1,
            device=device,
        )
    return {"ours": images / ours, "plain": images / theirs, "ratio": theirs / ours}
