"""Simultaneous training with consecutive blocks on different processes (`distributed.parallel=blocks`).

As no gradient passes from one group of blocks to the one before, a process needs nothing back: it sends
the detached outputs of its last block on and begins with the next batch, while the process behind it
trains on them. So J blocks train at once without waiting for a backward pass through all of them, and
each sees the very batches that it would see in one process (Belilovsky et al. 2020 call the waiting
that falls away the backward lock).
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
from layerwise.features.sources import BatchPlan, TrainingSource
from layerwise.models.blocknet import Readout, Segment
from layerwise.training.running_sums import RunningSums
from layerwise.training.team import Alone, Forward, Sums, sums_state, whole_totals

AHEAD = 2
"""Batches that a process may be ahead of the next one: so many outputs wait in its memory."""


def cuts(costs: Sequence[int], ends: Sequence[int], n: int) -> list[tuple[int, int]]:
    """Cuts a network into n runs of consecutive groups so that the dearest run costs least.

    Args:
        costs: of each block (with its head), from 1.
        ends: depths at which groups end, the last of them the network's.
        n: processes, at most as many as groups.

    Returns:
        (start, stop) of each process.
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


class BlockParallel(Alone):
    """Each process trains one of some consecutive parts of a stage.

    Args:
        parts: of the stage's segment, by rank; the gradient stops behind each head.
        data: all training samples, of which all but the first process use the labels only.
        plan: of their batches.
    """

    def __init__(self, parts: Sequence[Segment], data: Dataset, plan: BatchPlan) -> None:
        self.rank, self.parts = distributed.rank(), parts
        self._part = parts[self.rank]
        self._stream = Stream(self.rank, self.rank == len(parts) - 1, data.device)
        self._data, self._plan = data, plan
        self._began = 0.0  # of the present epoch
        self._trained = self._waited = 0.0  # seconds: of all epochs, and of them for all others to end theirs

    def part(self, segment: Segment) -> Segment:
        return self._part

    def forward(self, segment: Segment, compiled_for: int | None) -> Forward:
        walk = compile_for(compiled_for, self._part.walk)

        def run(x: Tensor) -> Sequence[Readout]:
            readouts, last = walk(x)
            self._stream.send(last)
            return readouts

        return run

    def source(self, source: TrainingSource) -> TrainingSource:
        self._began = time.perf_counter()
        return source if self.rank == 0 else Received(self._data, self._plan, self._stream)

    def merged(self, sums: Sums, images: int) -> tuple[Sums, int]:
        ready = time.perf_counter()
        whole = self._of_all_parts(sums)
        self._waited += time.perf_counter() - ready
        self._trained += time.perf_counter() - self._began
        return whole, images

    def _of_all_parts(self, sums: Sums) -> Sums:
        parts: list[Any] = [None] * len(self.parts)
        dist.all_gather_object(parts, {name: total.cpu() for name, total in sums.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in sorted(sums)}

    def settle(self, segment: Segment) -> None:
        for rank, part in enumerate(self.parts):
            for tensor in part.state_dict().values():
                dist.broadcast(tensor, src=rank)

    def whole_optimizer(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        own = {id(parameter) for parameter in self._part.parameters()}
        numbers = [i for i, parameter in enumerate(segment.parameters()) if id(parameter) in own]
        slots = {i: {k: on_host(v) for k, v in state["state"][i].items()} for i in numbers if i in state["state"]}
        parts = distributed.gather(slots)
        return {**state, "state": {i: part[i] for part in parts for i in sorted(part)}}

    def whole_sums(self, sums: RunningSums) -> dict[str, Any]:
        return sums_state(self._of_all_parts(sums.now()), sums.images, sums.steps) if sums.steps else sums.state_dict()

    def own_sums(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        if not state["steps"]:
            return state
        own = [i for i, depth in enumerate(segment.depths) if depth in self._part.depths]
        totals = {name: total[own] for name, total in whole_totals(state).items()}
        return sums_state(totals, state["images"], state["steps"])

    def utilisation(self) -> dict[str, Any]:
        if not self._trained:  # by an earlier process of this run
            return {}
        busy = 1 - (self._stream.waited + self._waited) / self._trained
        blocks = [self._part.start + 1, self._part.depths[-1]]
        return {"processes": distributed.gather({"blocks": blocks, "utilisation": round(busy, 3)})}


class Received:
    """Training features that the process before sends, and the labels that belong to them.

    Args:
        data, plan: the same as in the process that reads the images.
        stream: gives the features.
    """

    def __init__(self, data: Dataset, plan: BatchPlan, stream: Stream) -> None:
        self.data, self.plan, self.stream = data, plan, stream

    def train(self, stage: int, epoch: int, first_step: int = 0, target: Target = "labels") -> Iterator[Batch]:
        order = self.plan.order(stage, epoch, self.data.having_here(target), self.data.device)
        batches = order[first_step * self.plan.size :].split(self.plan.size)
        features = self.stream.receive([len(batch) for batch in batches])
        for positions, x in zip(batches, features, strict=True):
            yield Batch(x, self.data.splits["train"].labels[positions])


class Stream:
    """Features on their way from process to process.

    Args:
        rank: of this process.
        last: no process comes behind it.
        device: of the features.
    """

    def __init__(self, rank: int, last: bool, device: torch.device) -> None:
        self.rank, self.last, self.device = rank, last, device
        self.waited = 0.0  # seconds
        self._format_sent = False
        self._format: tuple[torch.dtype, tuple[int, ...]] | None = None
        self._sending: deque[tuple[dist.Work, Tensor]] = deque()

    def send(self, x: Tensor) -> None:
        """Sends x_stop on and returns before it is there; waits where the next process is too far behind."""
        if self.last:
            return
        rows = channels_last(x.detach())
        if not self._format_sent:
            dist.send_object_list([rows.dtype, tuple(rows.shape[1:])], dst=self.rank + 1, device=distributed.CPU)
            self._format_sent = True
        self._sending.append((_under_way(dist.isend(rows, dst=self.rank + 1)), rows))
        if len(self._sending) > AHEAD:
            self._wait(self._sending.popleft()[0])

    def receive(self, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Batches of the given sizes from the process before; the next one is on its way while one is used."""
        coming = self._begin(sizes[0])
        for following in [*sizes[1:], None]:
            work, rows = coming
            self._wait(work)
            if following is not None:
                coming = self._begin(following)
            yield rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def _begin(self, size: int) -> tuple[dist.Work, Tensor]:
        if self._format is None:
            told: list[Any] = [None, None]
            started = time.perf_counter()
            dist.recv_object_list(told, src=self.rank - 1, device=distributed.CPU)
            self.waited += time.perf_counter() - started
            self._format = (told[0], told[1])
        dtype, shape = self._format
        rows = torch.empty(size, *shape, dtype=dtype, device=self.device)
        return _under_way(dist.irecv(rows, src=self.rank - 1)), rows

    def _wait(self, work: dist.Work) -> None:
        started = time.perf_counter()
        work.wait()
        self.waited += time.perf_counter() - started


def _under_way(work: dist.Work | None) -> dist.Work:
    assert work is not None, "this process belongs to the group"
    return work


def channels_last(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, H, W, C], without a copy where that is how it lies in memory; vectors as they are."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).contiguous()


def on_host(value: Any) -> Any:
    """A tensor on the CPU; other values as they are."""
    return value.cpu() if isinstance(value, Tensor) else value
