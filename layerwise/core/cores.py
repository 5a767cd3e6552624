"""Share the cores of a machine between the processes of a run, and between training and decoding."""

from __future__ import annotations

import os

import torch

from layerwise.core.machine import usable_cores


def share_cores(local_ranks: int) -> None:
    """Give PyTorch in this process its part of the cores, unless the user has set OMP_NUM_THREADS.

    Args:
        local_ranks: processes of the run on this machine.
    """
    given = os.environ.get("OMP_NUM_THREADS")
    if given is not None and (local_ranks == 1 or given != "1"):  # torchrun itself sets 1 for several processes
        return
    part = max(1, usable_cores() // local_ranks)
    if local_ranks > 1 or part < torch.get_num_threads():
        torch.set_num_threads(part)


def decoding_workers(device: torch.device, local_ranks: int) -> int:
    """Default number of processes that decode images: one for each core that this process may use.

    A CPU run with a single core has none: passing batches between processes took 4 to 14 % of an epoch of Imagenette
    at 64 pixels.

    Args:
        device: device that trains.
        local_ranks: processes of the run on this machine.
    """
    part = max(1, usable_cores() // local_ranks)
    return 0 if device.type == "cpu" and part == 1 else part
