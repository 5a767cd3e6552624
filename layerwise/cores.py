"""How a machine's cores are shared: among the processes of a run, and by training and decoding."""

from __future__ import annotations

import os

import torch

from layerwise.environment import usable_cores


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
