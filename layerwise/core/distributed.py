"""The processes of one run: their ranks, their collective calls, and how an error in one of them ends all.

Each process has a rank, 0 … N−1. Rank 0, the main process, reads and writes the run folder and talks to the user.
torchrun or Hydra's submitit launcher starts the processes and sets environment variables; without these there is one
process, N = 1, and every function here is a no-op.

Collective functions, which all processes have to call in the same order: `join`, `from_main`, `in_main`, `together`,
`one_per_machine_first`, `barrier`, and all whose names begin with `all_reduce`, `AllReduce` or `gather`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from layerwise.core.errors import LaunchError, LayerwiseError, LostProcess
from layerwise.core.shard import Shard

P = ParamSpec("P")
T = TypeVar("T")

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """The position of a process among those of its run.

    Attributes:
        rank: number of the process.
        ranks: N, the number of processes.
        local_rank: number of the process on its machine, and of its GPU.
        local_ranks: number of processes on this machine.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1


ALONE = Place()


def read_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Reads RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, which a launcher sets.

    Raises:
        LaunchError: some variables are missing, or their values contradict each other.
    """
    given = {name: environment[name] for name in ("RANK", "WORLD_SIZE") if name in environment}
    if not given or given == {"WORLD_SIZE": "1"}:
        return ALONE
    advice = "Start with `torchrun --nproc_per_node=N -m layerwise train …`, which sets all of them, or unset it."
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
    """Returns the position of this process, from the environment."""
    if os.environ.get("SUBMITIT_EXECUTOR") and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        from submitit.helpers import TorchDistributedEnvironment  # installed, because submitit started this process

        TorchDistributedEnvironment().export(overwrite=True, set_cuda_visible_devices=False)
        if os.environ["SLURM_JOB_NUM_NODES"] == "1":
            os.environ["MASTER_ADDR"] = "127.0.0.1"  # the name of a node does not always resolve
    return read_place()


def rank() -> int:
    """Returns the number of this process."""
    return dist.get_rank() if joined() else 0


def ranks() -> int:
    """Returns N, the number of processes."""
    return dist.get_world_size() if joined() else 1


def is_main() -> bool:
    """Returns whether this is rank 0, which reads and writes the run folder and talks to the user."""
    return rank() == 0


@lru_cache(maxsize=256)
def say_once(message: str) -> None:
    """Prints to stderr in the main process what was not printed before."""
    if is_main():
        print(message, file=sys.stderr)


def joined() -> bool:
    """Returns whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def join(here: Place, device: torch.device, seconds: float) -> None:
    """Joins the process group: gloo for tensors on CPUs, NCCL for those on GPUs.

    A second call, in the next job of a sweep, does nothing.

    Args:
        seconds: time-out of this call and of all later collective calls.

    Raises:
        LaunchError: not all processes joined in time.
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


_left = False
"""Whether this process has been in a process group, and left it."""


def leave() -> None:
    """Leaves the process group."""
    global _left
    if joined():
        dist.destroy_process_group()
        _left = True


def has_left() -> bool:
    """Returns whether this process has been in a process group, and left it."""
    return _left


@contextmanager
def noticing_lost_processes() -> Iterator[None]:
    """Turns PyTorch's errors about a broken connection into one short message.

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
"""Words in the errors that gloo, NCCL and their store raise when a process is lost."""


_for_all = False
"""Whether this is the main process within `from_main`."""


def from_main(function: Callable[[], T]) -> T:
    """Calls a function in the main process; all processes return its result or raise its error.

    The result is sent with pickle, so it should be small or hold tensors on the CPU. Within such a function, which only
    the main process calls, another call is a plain one.
    """
    global _for_all
    if not joined() or _for_all:
        return function()
    told: list[Any] = [None, None]
    if is_main():
        try:
            _for_all = True
            told[0] = function()
        except LayerwiseError as error:
            told[1] = error.shared()
        except Exception as error:  # a bug: the other processes must not wait for it
            _broadcast([None, LostProcess(f"rank 0 failed: {error}")])
            raise
        finally:
            _for_all = False
    told = _broadcast(told)
    if told[1] is not None:
        raise told[1]
    return told[0]  # type: ignore[no-any-return]


def in_main(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function that the main process runs for all, as `from_main` says. Collective."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return from_main(lambda: function(*args, **kwargs))

    return called


def together(function: Callable[[], T]) -> T:
    """Calls a function in every process; if it fails in any, all processes raise the error of the lowest such rank."""
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
    """Calls a function in the first process of each machine, which may download files, and then in the others."""
    if not joined():
        return function()
    first = read_place().local_rank == 0
    result = together(lambda: function() if first else None)
    later = together(lambda: None if first else function())
    return result if first else later  # type: ignore[return-value]


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sums a tensor over all processes, in place."""
    if joined():
        dist.all_reduce(tensor)
    return tensor


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Averages a tensor over all processes, in place."""
    return all_reduce_sum(tensor).div_(ranks()) if joined() else tensor


def barrier() -> None:
    """Waits until all processes have called it."""
    if joined():
        AllReduceMax(0.0).wait()


class AllReduceMax:
    """The element-wise maximum of some numbers over all processes; it is computed while the caller goes on."""

    def __init__(self, *values: float) -> None:
        self._values = torch.tensor(values, dtype=torch.float64)
        self._work = dist.all_reduce(self._values, dist.ReduceOp.MAX, async_op=True) if joined() else None

    def wait(self) -> list[float]:
        """Returns the maxima, after all processes have given their numbers."""
        if self._work is not None:
            self._work.wait()
        return self._values.tolist()


def gather(tree: Any) -> list[Any]:
    """Returns the trees of all processes by rank in the main process, and an empty list elsewhere; uses pickle."""
    if not joined():
        return [tree]
    found: list[Any] | None = [None] * ranks() if is_main() else None
    dist.gather_object(tree, found)
    return found or []


def gather_rows(rows: Tensor, shard: Shard) -> Tensor:
    """Gathers the rows of all samples in the main process; the others get their own rows back.

    Args:
        rows: [n, …], the rows of this process's samples.

    Returns:
        [N, …] in the order of the samples, on the CPU.
    """
    rows = rows.cpu()
    if not joined() or shard.ranks == 1:
        return rows
    sizes = [0] * shard.ranks
    dist.all_gather_object(sizes, len(rows))
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # gloo needs equal sizes
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in sizes] if is_main() else None
    dist.gather(padded, received)
    if received is None:
        return rows
    return shard.whole([part[:n] for part, n in zip(received, sizes, strict=True)])


def host() -> str:
    """Returns the name of this machine."""
    return socket.gethostname()


def _broadcast(content: list[Any]) -> list[Any]:
    dist.broadcast_object_list(content, src=0, device=CPU)
    return content
