"""The gain of compile=true."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.steps import BATCH, block_segment, network, source_of, stepper, take_turns, trainer_of


def measure(device: torch.device, width: int = 128, rounds: int = 3, steps: int = 2) -> dict[str, Any]:
    """Images/s of a step of the first three blocks, k = 3, with its data: as it is, compiled, and on a GPU recorded.

    `recorded` replays the step as a CUDA graph, `both` is what compile=true does on a GPU.

    Args:
        width: M; M̃ is twice that.
    """
    net = network(width, 2 * width, J=3).to(device, memory_format=torch.channels_last)
    ways = {"plain": (False, False), "compiled": (True, False)}
    if device.type == "cuda":
        ways |= {"recorded": (False, True), "both": (True, True)}
    source = source_of(device)
    figures: dict[str, Any] = {}
    for depth in (1, 2, 3):
        if depth > 1:
            source.advance([net.blocks[depth - 2]])
        loops = [stepper(trainer_of(block_segment(net, depth), device, *way), source) for way in ways.values()]
        seconds = dict(zip(ways, take_turns(loops, rounds, steps, device), strict=True))
        figures[f"j = {depth}"] = {way: BATCH / s for way, s in seconds.items()} | {
            f"{way}_ratio": seconds["plain"] / s for way, s in seconds.items() if way != "plain"
        }
    return figures
