"""A run as a task of a job that `hydra/launcher=slurm` submitted: one task for each GPU of a node.

When the job's time is up, SLURM sends SIGUSR2, on which submitit puts the job back into the queue and ends it at once;
here the training first saves. (How the tasks find each other: `distributed.place`.)
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from omegaconf import OmegaConf

from layerwise.core.errors import Interrupted

OmegaConf.register_new_resolver("slurm_processes", lambda gpus: max(1, gpus), replace=True)
"""`${slurm_processes:N}` of conf/hydra/launcher/slurm.yaml: one process for each of N GPUs, or one on the CPU."""


@contextmanager
def submitted_task() -> Iterator[None]:
    """Around a run: does nothing unless submitit started this process on a SLURM cluster.

    Raises:
        Interrupted: the job's time is up, and this is not the task that submitit requeues from.
        SystemExit: it is that task; the job is in the queue again.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        yield
        return
    requeue = signal.getsignal(signal.SIGUSR2)
    assert callable(requeue), "submitit asks for SIGUSR2 and handles it"
    asked = False

    def save_first(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if callable(signal.getsignal(signal.SIGUSR1)):  # the training listens
            os.kill(os.getpid(), signal.SIGUSR1)
        else:
            requeue(number, frame)

    signal.signal(signal.SIGUSR2, save_first)
    try:
        yield
    except Interrupted:
        if asked:
            requeue(signal.SIGUSR2, None)
        raise
    finally:
        signal.signal(signal.SIGUSR2, requeue)
