"""How the processes of a run share a stage: `Team` is one process that does all of it, `DataParallel` gives each
process a part of every batch, and `BlockParallel` (in `block_parallel`) a part of the blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from layerwise.core import distributed
from layerwise.core.compiling import compile_for
from layerwise.features.sources import TrainingSource
from layerwise.models.blocknet import Segment
from layerwise.models.readout import Readout
from layerwise.training.optim import portable_state
from layerwise.training.running_sums import RunningSums

Forward = Callable[[Tensor], Sequence[Readout]]
"""From features x_start [B, …] to one readout per head."""

Sums = dict[str, Tensor]
"""Sums over samples by name, [D] float64 each."""


class Team:
    """One process, which trains the whole segment on whole batches.

    In its subclasses the methods `wrap_forward`, `all_reduce_…`, `gather_…` and `sync_…` are collective: all processes
    call them in the same order. The others are local.
    """

    rank = 0
    ranks = 1
    """Processes that share each batch."""

    def local_segment(self, segment: Segment) -> Segment:
        """Returns the blocks and heads of a stage that this process trains."""
        return segment

    def local_source(self, source: TrainingSource) -> TrainingSource:
        """Returns where this process's training features come from."""
        return source

    def local_sums(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        """Returns this process's part of a state of `gather_sums`, which any number of processes may have written."""
        return state

    def loss_scale(self, images: int, batch_images: int) -> float:
        """Returns the factor on the loss of this process that makes the combined gradient that of the whole batch.

        Args:
            images: samples of the batch in this process.
            batch_images: samples of the batch in all processes.
        """
        return 1.0

    def wrap_forward(self, segment: Segment, compiled_for: int | None) -> Forward:
        """Returns the forward pass of this process's part of a segment; for `compiled_for` see `compile_for`."""
        return compile_for(compiled_for, segment)

    def unsynchronised(self) -> AbstractContextManager[object]:
        """Context of a forward and backward pass whose gradients later passes add to before they are exchanged."""
        return nullcontext()

    def all_reduce_sums(self, sums: Sums, images: int) -> tuple[Sums, int]:
        """Returns the sums over the samples of all processes, with an entry per head of the stage, and their number."""
        return sums, images

    def sync_weights(self, segment: Segment) -> None:
        """Gives all processes the same weights and batch-norm statistics of the whole segment."""

    def gather_optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Returns, in the main process, the optimizer's state for all parameters of the segment."""
        return portable_state(optimizer)

    def gather_sums(self, sums: RunningSums) -> dict[str, Any]:
        """Returns, in the main process, the state of the sums over all samples and heads."""
        return sums.state_dict()

    def gather_utilisation(self) -> dict[str, Any]:
        """Returns how busy each process was, as entries for a row of the results."""
        return {}


ALONE = Team()


class DataParallel(Team):
    """Each process computes the gradient on its part of every batch; the gradients are averaged."""

    def __init__(self) -> None:
        self.rank, self.ranks = distributed.rank(), distributed.ranks()

    def local_sums(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        if self.rank == 0 or not state["steps"]:
            return state
        return sums_state(
            {name: torch.zeros_like(total) for name, total in totals_of(state).items()}, 0, state["steps"]
        )

    def loss_scale(self, images: int, batch_images: int) -> float:
        return images * self.ranks / batch_images  # 1 except in the last batch of an epoch

    def wrap_forward(self, segment: Segment, compiled_for: int | None) -> Forward:
        with warnings.catch_warnings():
            # newer versions of PyTorch rename the argument
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            # no broadcast: batch-norm statistics are the same in all processes, or averaged by `sync_weights`
            self._wrapped = DistributedDataParallel(segment, broadcast_buffers=False, gradient_as_bucket_view=True)
        return compile_for(compiled_for, self._wrapped)

    def unsynchronised(self) -> AbstractContextManager[object]:
        return self._wrapped.no_sync()

    def all_reduce_sums(self, sums: Sums, images: int) -> tuple[Sums, int]:
        names = list(sums)
        number = torch.tensor([images], dtype=torch.float64, device=sums[names[0]].device)
        table = distributed.all_reduce_sum(torch.cat([*sums.values(), number]))  # one message
        parts = table.split([*(len(value) for value in sums.values()), 1])
        return dict(zip(names, parts, strict=False)), int(parts[-1])

    def sync_weights(self, segment: Segment) -> None:
        for buffer in segment.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce_mean(buffer)

    def gather_sums(self, sums: RunningSums) -> dict[str, Any]:
        if not sums.steps:
            return sums.state_dict()
        return sums_state(*self.all_reduce_sums(sums.now(), sums.images), sums.steps)


def sums_state(totals: Sums, images: int, steps: int) -> dict[str, Any]:
    """Returns the state of a `RunningSums` that has added up all its steps."""
    return {"totals": totals, "means": {}, "counts": {}, "sizes": [], "images": images, "steps": steps}


def totals_of(state: dict[str, Any]) -> Sums:
    """Returns the sums of a state of `RunningSums`, on the CPU."""
    sums = RunningSums(torch.device("cpu"))
    sums.load_state_dict(state)
    return sums.now()
