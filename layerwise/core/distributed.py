"""The processes of one run: their ranks, their collective calls, and how an error in one of them ends all.

Each process has a rank, 0 … N−1. Rank 0, the main process, reads and writes the run folder and prints.
torchrun, or Hydra's submitit launcher, starts the processes and describes them in environment variables.
Without these variables N = 1 and every function here is a no-op.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from layerwise.core.errors import LaunchError, LayerwiseError, LostProcess
from layerwise.core.shard import Shard

T = TypeVar("T")

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """Rank of a process in its run.

    Attributes:
        rank: number of this process, 0 … N−1.
        ranks: N, the number of processes.
        local_rank: number of this process on its machine, and of the GPU that it uses.
        local_ranks: number of processes on this machine.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1


ALONE = Place()


def read_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, which a launcher sets.

    Raises:
        LaunchError: a variable is missing, is not a number, or contradicts another.
    """
    given = {name: environment[name] for name in ("RANK", "WORLD_SIZE") if name in environment}
    if not given or given == {"WORLD_SIZE": "1"}:
        return ALONE
    advice = "Start with `torchrun --nproc_per_node=N train.py …`, which sets all of them, or unset it."
    for name in ("RANK", "WORLD_SIZE"):
        if name not in given:
            (other,) = given.items()
            raise LaunchError(f"{other[0]}={other[1]} is set, but {name} is not. {advice}")
    try:
        rank, ranks = int(given["RANK"]), int(given["WORLD_SIZE"])
        local_rank = int(environment.get("LOCAL_RANK", 0))
        local_ranks = int(environment.get("LOCAL_WORLD_SIZE", 1))
    except ValueError as error:
        raise LaunchError(f"RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE: {error}. {advice}") from error
    if not 0 <= rank < ranks:
        raise LaunchError(f"RANK={rank} is out of range: WORLD_SIZE={ranks} has ranks 0 … {ranks - 1}. {advice}")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if ranks > 1 and missing:
        raise LaunchError(f"WORLD_SIZE={ranks} is set, but {missing[0]} is not. {advice}")
    return Place(rank, ranks, local_rank, local_ranks)


def place() -> Place:
    """Read the rank of this process from the environment of torchrun, or of SLURM if submitit started it."""
    if os.environ.get("SUBMITIT_EXECUTOR") and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        from submitit.helpers import TorchDistributedEnvironment  # installed, since it started this process

        TorchDistributedEnvironment().export(overwrite=True, set_cuda_visible_devices=False)
        if os.environ["SLURM_JOB_NUM_NODES"] == "1":
            os.environ["MASTER_ADDR"] = "127.0.0.1"  # submitit sets the node's name, which may not resolve
    return read_place()


def rank() -> int:
    """Rank of this process; 0 if it is alone."""
    return dist.get_rank() if joined() else 0


def ranks() -> int:
    """Number of processes, N."""
    return dist.get_world_size() if joined() else 1


def is_main() -> bool:
    """Whether this is rank 0, which reads and writes the run folder and prints."""
    return rank() == 0


def joined() -> bool:
    """Whether this process has joined a group of several."""
    return dist.is_available() and dist.is_initialized()


def join(here: Place, device: torch.device, seconds: float) -> None:
    """Join the process group. A second call (the next job of a sweep) does nothing.

    gloo connects the processes, and NCCL carries tensors on GPUs.

    Args:
        here: rank and number of processes.
        device: device of this process.
        seconds: time-out of this call and of every later collective call.

    Raises:
        LaunchError: not every process joined in time.
    """
    if here.ranks == 1 or joined():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            rank=here.rank,
            world_size=here.ranks,
            timeout=timedelta(seconds=seconds),
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise LaunchError(
            f"rank {here.rank} waited {seconds:g} s at {address} and did not meet all {here.ranks} processes "
            f"({str(error).strip().splitlines()[0]}). Start one process per rank with the same WORLD_SIZE, MASTER_ADDR "
            "and MASTER_PORT (torchrun and slurm/train.sbatch do), check that this port is free on the first machine "
            "and not blocked by a firewall, or wait longer with distributed.timeout=SECONDS."
        ) from error


def leave() -> None:
    """Leave the process group at the end of a process that succeeded."""
    if joined():
        dist.destroy_process_group()


@contextmanager
def noticing_lost_processes() -> Iterator[None]:
    """Turn PyTorch's error for a broken connection into a short message.

    Raises:
        LostProcess: another process has ended or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        if not joined() or not any(word in str(error) for word in BROKEN):
            raise
        raise LostProcess(
            f"rank {rank()} lost the connection to another process of this run. That process ended (see its message or "
            "the launcher's; without one it was killed, perhaps for its memory) or did not answer within "
            "distributed.timeout seconds. Everything saved is intact; run the same command again to go on."
        ) from error


BROKEN = ("Connection closed by peer", "Connection reset", "Broken pipe", "Timed out", "NCCL", "Socket", "timed out")
"""Words in the errors that gloo, NCCL and their store raise for a broken connection."""


def from_main(function: Callable[[], T]) -> T:
    """Call a function in the main process; every process returns its result or raises its error. Collective.

    The result is sent with pickle: use it for small values, or tensors on the CPU.
    """
    if not joined():
        return function()
    told: list[Any] = [None, None]
    if is_main():
        try:
            told[0] = function()
        except LayerwiseError as error:
            told[1] = error.shared()
        except Exception as error:  # a bug: the others must not wait for the result
            _broadcast([None, LostProcess(f"rank 0 failed: {error}")])
            raise
    told = _broadcast(told)
    if told[1] is not None:
        raise told[1]
    return told[0]  # type: ignore[no-any-return]


def together(function: Callable[[], T]) -> T:
    """Call a function in every process; if it fails in any, all raise the error of the lowest rank. Collective."""
    if not joined():
        return function()
    result: Any = None
    failed: LayerwiseError | None = None
    try:
        result = function()
    except LayerwiseError as error:
        failed = error
    found: list[LayerwiseError | None] = [None] * ranks()
    dist.all_gather_object(found, failed)
    for number, problem in enumerate(found):
        if problem is not None:
            if number > 0 and not problem.is_shared:
                problem.args = (f"{problem} (on rank {number})", *problem.args[1:])
            raise problem.shared()
    return result  # type: ignore[no-any-return]


def one_per_machine_first(function: Callable[[], T]) -> T:
    """Call a function first in one process per machine, then in the others, which find its downloads. Collective."""
    if not joined():
        return function()
    first = read_place().local_rank == 0
    result = together(lambda: function() if first else None)
    later = together(lambda: None if first else function())
    return result if first else later  # type: ignore[return-value]


def add_up(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place. Collective."""
    if joined():
        dist.all_reduce(tensor)
    return tensor


def mean_of(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes, in place. Collective."""
    return add_up(tensor).div_(ranks()) if joined() else tensor


def barrier() -> None:
    """Wait until every process has called this. Collective."""
    if joined():
        Largest(0.0).answer()


class Largest:
    """The element-wise maximum of some numbers over all processes, requested now and awaited later. Collective."""

    def __init__(self, *values: float) -> None:
        self._values = torch.tensor(values, dtype=torch.float64)
        self._work = dist.all_reduce(self._values, dist.ReduceOp.MAX, async_op=True) if joined() else None

    def answer(self) -> list[float]:
        """Wait for the result: the maximum of each number."""
        if self._work is not None:
            self._work.wait()
        return self._values.tolist()


def gather(tree: Any) -> list[Any]:
    """Return the values of all ranks, in order, in the main process and [] elsewhere. Sent with pickle. Collective."""
    if not joined():
        return [tree]
    found: list[Any] | None = [None] * ranks() if is_main() else None
    dist.gather_object(tree, found)
    return found or []


def gather_rows(rows: Tensor, shard: Shard) -> Tensor:
    """Gather the rows of all shards in the main process. Collective.

    Args:
        rows: [n, …] rows of the samples in this shard.
        shard: shard of this process.

    Returns:
        On the CPU: in the main process [N, …], the rows of all samples in order; elsewhere, or with one shard, `rows`.
    """
    rows = rows.cpu()
    if not joined() or shard.ranks == 1:
        return rows
    sizes = [0] * shard.ranks
    dist.all_gather_object(sizes, len(rows))
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # gloo sends equal sizes only
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in sizes] if is_main() else None
    dist.gather(padded, received)
    if received is None:
        return rows
    return shard.whole([part[:n] for part, n in zip(received, sizes, strict=True)])


def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def _broadcast(content: list[Any]) -> list[Any]:
    dist.broadcast_object_list(content, src=0, device=CPU)
    return content
