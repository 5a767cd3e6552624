"""A run as a task of a job that `hydra/launcher=slurm` submitted; one task per GPU.

At the time limit SLURM sends SIGUSR2, and submitit requeues the job and ends it at once. Here the training saves first.
`distributed.place` says how the tasks find each other.
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
    """Around a run: saves before submitit requeues the job. Without submitit it does nothing.

    Raises:
        Interrupted: the time limit is reached, and another task requeues the job.
        SystemExit: this task has requeued the job.
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
