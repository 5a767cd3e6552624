"""How a machine's cores are shared: among the processes of a run, and by training and decoding."""

from __future__ import annotations

import os

import torch

from layerwise.core.machine import usable_cores


def share_cores(local_ranks: int) -> None:
    """Gives PyTorch in this process its part of the cores. What the user says in OMP_NUM_THREADS stands.

    Args:
        local_ranks: processes of the run on this machine.
    """
    given = os.environ.get("OMP_NUM_THREADS")
    if given is not None and (local_ranks == 1 or given != "1"):  # of several, torchrun says 1 where nobody else does
        return
    part = max(1, usable_cores() // local_ranks)
    if local_ranks > 1 or part < torch.get_num_threads():
        torch.set_num_threads(part)


def decoding_workers(device: torch.device, local_ranks: int) -> int:
    """Processes that decode images, unless the user says how many: one for each core that this process may use.

    Where a single core has to train as well there are none: handing batches over cost 4 to 14 % of an epoch on
    Imagenette at 64 pixels.

    Args:
        device: that trains.
        local_ranks: processes of the run on this machine.
    """
    part = max(1, usable_cores() // local_ranks)
    return 0 if device.type == "cpu" and part == 1 else part
