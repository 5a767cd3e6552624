"""A training step as one CUDA graph: recorded once, then a single launch where there were some hundred.

A recording replays the same kernels on the same memory. So it is for batches of one size, which are copied into the
memory that it reads; what changes from step to step, the learning rate, lies on the device (`optim.make_capturable`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from layerwise.core.errors import LayerwiseError
from layerwise.training.objectives import Terms
from layerwise.training.step import TrainingStep

WARM_UP = 3
"""Steps before the recording: libraries choose their kernels and the optimiser makes its buffers (PyTorch's advice)."""

Result = TypeVar("Result")


class Recorder(Protocol):
    """Records what a device is told to do."""

    def aside(self, work: Callable[[], Result]) -> Result:
        """Does some work where it will be recorded later."""

    def record(self, work: Callable[[], Result]) -> Result:
        """Records some work without doing it; its results get their values at each `replay`."""

    def replay(self) -> None:
        """Does the recorded work."""


class CudaGraph:
    """A recorder of a GPU's kernels.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream, self.graph = _stream(device), torch.cuda.CUDAGraph()

    def aside(self, work: Callable[[], Result]) -> Result:
        present = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(present)
        with torch.cuda.stream(self.stream):
            result = work()
        present.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Result]) -> Result:
        # thread_local: threads that read the next batches ahead may go on
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        self.graph.replay()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings on a device, as libraries keep memory for each stream."""
    return torch.cuda.Stream(device)


class CapturedStep:
    """Replays a step on batches of one size; those of other sizes, the last of an epoch, take it as it is.

    Args:
        step: does the same, operation by operation.
        recorder: of the device.
        images: size of the batches that are replayed.
    """

    def __init__(self, step: TrainingStep, recorder: Recorder, images: int) -> None:
        self.step, self.recorder, self.images = step, recorder, images
        self._to_warm_up = WARM_UP
        self._memory: tuple[Tensor, Tensor] | None = None  # that the recording reads
        self._terms: Terms | None = None  # that it writes

    def __call__(self, inputs: Tensor, targets: Tensor, share: float = 1.0) -> Terms:
        if len(targets) != self.images:
            return self.step(inputs, targets, share)
        if self._to_warm_up:
            self._to_warm_up -= 1
            return self.recorder.aside(lambda: self.step(inputs, targets, share))
        if self._memory is None or self._terms is None:
            self._memory = own = inputs.clone(), targets.clone()
            try:
                self._terms = self.recorder.record(lambda: _without_graph(self.step(*own, share)))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                cause = error.__context__ or error  # to end a recording after an error is another error
                raise LayerwiseError(
                    "compile=true: a training step cannot be recorded as a CUDA graph "
                    f"({str(cause).strip().partition(chr(10))[0]}). "
                    "Use compile=false; finished blocks and checkpoints are kept."
                ) from error
        for memory, value in zip(self._memory, (inputs, targets), strict=True):
            memory.copy_(value)
        self.recorder.replay()
        return _copied(self._terms)


def _without_graph(terms: Terms) -> Terms:
    """The same with a loss that keeps no node alive: those of the recording's stream would serve later steps, too."""
    return {**terms, "loss": terms["loss"].detach()}


def _copied(terms: Terms) -> Terms:
    """The same values in memory of their own: the next replay overwrites them."""
    return {
        "loss": terms["loss"],
        "means": {name: [value.clone() for value in values] for name, values in terms["means"].items()},
        "counts": {name: [value.clone() for value in values] for name, values in terms["counts"].items()},
    }
