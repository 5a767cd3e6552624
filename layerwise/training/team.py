"""How the processes of a run share the work of a stage: each trains all of it on a part of the batch, or
(`block_parallel`) a part of the blocks on all of it. What a team does with one process is nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from layerwise.core import distributed
from layerwise.core.compiling import compile_for
from layerwise.features.sources import TrainingSource
from layerwise.models.blocknet import Readout, Segment
from layerwise.training.running_sums import RunningSums

Forward = Callable[[Tensor], Sequence[Readout]]
Sums = dict[str, Tensor]
Result = TypeVar("Result")


class Team(Protocol):
    """A way to share the work; what is asked of it is asked in all processes alike."""

    @property
    def rank(self) -> int:
        """Number of this process."""

    def part(self, segment: Segment) -> Segment:
        """What of a stage's segment this process trains."""

    def forward(self, segment: Segment, compiled_for: int | None) -> Forward:
        """What runs in a step: from this process's features to the readouts of its heads; see `compile_for`."""

    def source(self, source: TrainingSource) -> TrainingSource:
        """Where this process's training features come from."""

    def share(self, images: int, of: int) -> float:
        """Factor on the loss of this process's images, so that all gradients together are those of the whole batch."""

    def merged(self, sums: Sums, images: int) -> tuple[Sums, int]:
        """Sums over the samples of all processes, with an entry per head of the stage, and the number of samples."""

    def settle(self, segment: Segment) -> None:
        """Gives all processes the same weights and statistics of the whole segment."""

    def whole_optimizer(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        """In the main process the optimiser's state for all parameters of the segment."""

    def whole_sums(self, sums: RunningSums) -> dict[str, Any]:
        """In the main process the state of sums over all samples and heads."""

    def own_sums(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        """This process's part of what `whole_sums` gave, for any number of processes."""

    def utilisation(self) -> dict[str, Any]:
        """What there is to say of how busy each process was, for a row of the results."""


class Alone:
    """One process."""

    rank = 0

    def part(self, segment: Segment) -> Segment:
        return segment

    def forward(self, segment: Segment, compiled_for: int | None) -> Forward:
        return compile_for(compiled_for, segment)

    def source(self, source: TrainingSource) -> TrainingSource:
        return source

    def share(self, images: int, of: int) -> float:
        return 1.0

    def merged(self, sums: Sums, images: int) -> tuple[Sums, int]:
        return sums, images

    def settle(self, segment: Segment) -> None:
        pass

    def whole_optimizer(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def whole_sums(self, sums: RunningSums) -> dict[str, Any]:
        return sums.state_dict()

    def own_sums(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def utilisation(self) -> dict[str, Any]:
        return {}


ALONE = Alone()


class DataParallel(Alone):
    """Each process computes the gradient of its part of a batch; gradients are averaged.

    A stage is wrapped anew, since what is trained changes from stage to stage.
    """

    def __init__(self) -> None:
        self.rank, self.ranks = distributed.rank(), distributed.ranks()

    def forward(self, segment: Segment, compiled_for: int | None) -> Forward:
        with warnings.catch_warnings():
            # newer versions of PyTorch have another name for it
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            # buffers: the statistics of batch norms are the same in all processes, or averaged by `settle`
            wrapped = DistributedDataParallel(segment, broadcast_buffers=False, gradient_as_bucket_view=True)
        return compile_for(compiled_for, wrapped)

    def share(self, images: int, of: int) -> float:
        return images * self.ranks / of  # 1 but in the last batch of an epoch

    def merged(self, sums: Sums, images: int) -> tuple[Sums, int]:
        names = list(sums)
        number = torch.tensor([images], dtype=torch.float64, device=sums[names[0]].device)
        table = distributed.all_reduce_sum(torch.cat([*sums.values(), number]))  # one message
        parts = table.split([*(len(value) for value in sums.values()), 1])
        return dict(zip(names, parts, strict=False)), int(parts[-1])

    def settle(self, segment: Segment) -> None:
        for buffer in segment.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce_mean(buffer)

    def whole_sums(self, sums: RunningSums) -> dict[str, Any]:
        return sums_state(*self.merged(sums.now(), sums.images), sums.steps) if sums.steps else sums.state_dict()

    def own_sums(self, segment: Segment, state: dict[str, Any]) -> dict[str, Any]:
        if self.rank == 0 or not state["steps"]:
            return state
        totals = whole_totals(state)
        return sums_state({name: torch.zeros_like(total) for name, total in totals.items()}, 0, state["steps"])


def sums_state(totals: Sums, images: int, steps: int) -> dict[str, Any]:
    """State of `RunningSums` whose steps are all in the totals."""
    return {"totals": totals, "means": {}, "counts": {}, "sizes": [], "images": images, "steps": steps}


def whole_totals(state: dict[str, Any]) -> Sums:
    """The sums that a state of `RunningSums` stands for, on the CPU."""
    sums = RunningSums(torch.device("cpu"))
    sums.load_state_dict(state)
    return sums.now()
