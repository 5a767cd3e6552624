"""Simultaneous training with consecutive blocks on different processes (`distributed.parallel=blocks`).

No gradient passes from one group of blocks to the group before it. So a process sends the detached outputs of its last
block to the next process and goes on with the next batch: J blocks train at once, and none waits for a backward pass
through the others (Belilovsky et al. 2020 call this backward unlocking). Each block sees the same batches as in one
process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from layerwise.core import distributed
from layerwise.core.compiling import compile_for
from layerwise.core.types import Batch, Target
from layerwise.data.dataset import Dataset
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import TrainingSource
from layerwise.models.blocknet import Segment
from layerwise.models.readout import Readout
from layerwise.training.optim import portable_state
from layerwise.training.running_sums import RunningSums
from layerwise.training.team import Forward, Sums, Team, sums_state, totals_of

AHEAD = 2
"""Batches that a process may be ahead of the next one; their outputs wait in its memory."""


def cuts(costs: Sequence[int], ends: Sequence[int], n: int) -> list[tuple[int, int]]:
    """Cuts a network into n sequences of consecutive groups, so that the most expensive sequence costs least.

    Args:
        costs: cost of each block with its head, in any unit.
        ends: depths at which groups end; the last is the depth of the network.
        n: number of processes, at most the number of groups.

    Returns:
        (start, stop) for each process, which trains blocks start+1 … stop.
    """
    starts = [0, *ends[:-1]]
    groups = [sum(costs[start:stop]) for start, stop in zip(starts, ends, strict=True)]
    best: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {(0, 0): (0, ())}
    for parts in range(1, n + 1):
        for end in range(parts, len(groups) + 1):
            options = [
                (max(best[parts - 1, begin][0], sum(groups[begin:end])), (*best[parts - 1, begin][1], end))
                for begin in range(parts - 1, end)
                if (parts - 1, begin) in best
            ]
            best[parts, end] = min(options)
    last = best[n, len(groups)][1]
    stops = [ends[group - 1] for group in last]
    return list(zip([0, *stops[:-1]], stops, strict=True))


class BlockParallel(Team):
    """Each process trains one of several consecutive parts of a stage.

    Args:
        parts: parts of the stage's segment, by rank; the gradient stops behind each head.
        data: all training samples. Processes other than the first use their labels only.
    """

    def __init__(self, parts: Sequence[Segment], data: Dataset, plan: BatchPlan) -> None:
        self.rank, self.parts = distributed.rank(), parts
        self._part = parts[self.rank]
        self._stream = Stream(self.rank, self.rank == len(parts) - 1, data.device)
        self._data, self._plan = data, plan
        self._epoch_began = 0.0
        self._trained = 0.0  # seconds of all epochs
        self._waited = 0.0  # seconds of these, until the other processes had ended their epochs

    def local_segment(self, segment: Segment) -> Segment:
        return self._part

    def local_source(self, source: TrainingSource) -> TrainingSource:
        self._epoch_began = time.perf_counter()
        return source if self.rank == 0 else Received(self._data, self._plan, self._stream)

    def local_sums(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        if not state["steps"]:
            return state
        own = [i for i, depth in enumerate(segment.depths) if depth in self._part.depths]
        totals = {name: total[own] for name, total in totals_of(state).items()}
        return sums_state(totals, state["images"], state["steps"])

    def wrap_forward(self, segment: Segment, compiled_for: int | None) -> Forward:
        walk = compile_for(compiled_for, self._part.walk)

        def run(x: Tensor) -> Sequence[Readout]:
            readouts, last = walk(x)
            self._stream.send(last)
            return readouts

        return run

    def all_reduce_sums(self, sums: Sums, images: int) -> tuple[Sums, int]:
        ready = time.perf_counter()
        of_all_heads = self._all_gather_heads(sums)
        self._waited += time.perf_counter() - ready
        self._trained += time.perf_counter() - self._epoch_began
        return of_all_heads, images

    def sync_weights(self, segment: Segment) -> None:
        for rank, part in enumerate(self.parts):
            for tensor in part.state_dict().values():
                dist.broadcast(tensor, src=rank)

    def gather_optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        state, own = portable_state(optimizer), {id(parameter) for parameter in self._part.parameters()}
        numbered = enumerate(parameter for group in optimizer.param_groups for parameter in group["params"])
        numbers = [i for i, parameter in numbered if id(parameter) in own]
        slots = {i: {k: on_host(v) for k, v in state["state"][i].items()} for i in numbers if i in state["state"]}
        parts = distributed.gather(slots)
        return {**state, "state": {i: part[i] for part in parts for i in sorted(part)}}

    def gather_sums(self, sums: RunningSums) -> dict[str, Any]:
        if not sums.steps:
            return sums.state_dict()
        return sums_state(self._all_gather_heads(sums.now()), sums.images, sums.steps)

    def gather_utilisation(self) -> dict[str, Any]:
        if not self._trained:  # an earlier process of this run trained the stage
            return {}
        busy = 1 - (self._stream.waited + self._waited) / self._trained
        blocks = [self._part.start + 1, self._part.depths[-1]]
        return {"processes": distributed.gather({"blocks": blocks, "utilisation": round(busy, 3)})}

    def _all_gather_heads(self, sums: Sums) -> Sums:
        """Returns the sums of all heads of the stage, on the CPU."""
        parts: list[Any] = [None] * len(self.parts)
        dist.all_gather_object(parts, {name: total.cpu() for name, total in sums.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in sorted(sums)}


class Received:
    """Training features from the process before, with their labels.

    Args:
        data, plan: the same as in rank 0, which reads the images.
    """

    def __init__(self, data: Dataset, plan: BatchPlan, stream: Stream) -> None:
        self.data, self.plan, self.stream = data, plan, stream

    def train(self, stage: int, epoch: int, first_step: int = 0, target: Target = "labels") -> Iterator[Batch]:
        order = self.plan.order(stage, epoch, self.data.having_here(target), self.data.device)
        batches = order[first_step * self.plan.size :].split(self.plan.size)
        features = self.stream.receive([len(batch) for batch in batches])
        for positions, x in zip(batches, features, strict=True):
            yield Batch(x, self.data.targets("train", positions, self.plan.view(stage, epoch)))


class Stream:
    """Sends features to the next process and receives those of the process before.

    Args:
        last: whether this is the last process, which sends nothing.
    """

    def __init__(self, rank: int, last: bool, device: torch.device) -> None:
        self.rank, self.last, self.device = rank, last, device
        self.waited = 0.0  # seconds
        self._format_sent = False
        self._format: tuple[torch.dtype, tuple[int, ...]] | None = None
        self._sending: deque[tuple[dist.Work, Tensor]] = deque()

    def send(self, x: Tensor) -> None:
        """Starts to send x_stop to the next process; waits if that is more than `AHEAD` batches behind."""
        if self.last:
            return
        rows = channels_last(x.detach())
        if not self._format_sent:
            dist.send_object_list([rows.dtype, tuple(rows.shape[1:])], dst=self.rank + 1, device=distributed.CPU)
            self._format_sent = True
        self._sending.append((_started(dist.isend(rows, dst=self.rank + 1)), rows))
        if len(self._sending) > AHEAD:
            self._wait(self._sending.popleft()[0])

    def receive(self, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Yields batches of the given sizes from the process before, and receives the next one meanwhile."""
        coming = self._start_receiving(sizes[0])
        for following in [*sizes[1:], None]:
            work, rows = coming
            self._wait(work)
            if following is not None:
                coming = self._start_receiving(following)
            yield rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def _start_receiving(self, size: int) -> tuple[dist.Work, Tensor]:
        if self._format is None:
            told: list[Any] = [None, None]
            started = time.perf_counter()
            dist.recv_object_list(told, src=self.rank - 1, device=distributed.CPU)
            self.waited += time.perf_counter() - started
            self._format = (told[0], told[1])
        dtype, shape = self._format
        rows = torch.empty(size, *shape, dtype=dtype, device=self.device)
        return _started(dist.irecv(rows, src=self.rank - 1)), rows

    def _wait(self, work: dist.Work) -> None:
        started = time.perf_counter()
        work.wait()
        self.waited += time.perf_counter() - started


def _started(work: dist.Work | None) -> dist.Work:
    assert work is not None, "this process belongs to the group"
    return work


def channels_last(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, H, W, C], without a copy of a tensor in channels_last; vectors [B, F] do not change."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).contiguous()


def on_host(value: Any) -> Any:
    """Moves a tensor to the CPU; other values do not change."""
    return value.cpu() if isinstance(value, Tensor) else value
