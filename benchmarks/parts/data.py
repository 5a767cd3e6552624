"""The share of data loading and augmentation in a training step."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.steps import block_segment, network, reader, source_of, stepper, take_turns, trainer_of


def measure(device: torch.device) -> dict[str, Any]:
    """Seconds for a batch's data and augmentation, against a whole step of block 1 at full width."""
    net = network(128, 256, J=1).to(device, memory_format=torch.channels_last)
    source = source_of(device)
    whole = stepper(trainer_of(block_segment(net, 1), device), source)
    step, data = take_turns([whole, reader(source)], rounds=5, steps=2, device=device)
    return {"data_seconds": data, "step_seconds": step, "share": data / step}
