"""One training step on the device: forward, loss, backward and update. Nothing in it waits for the device.

`EagerStep` runs it operation by operation. `CapturedStep` replays it as one CUDA graph: a single launch in place of
some hundred. A graph runs the same kernels on the same memory, so it serves batches of one size, which are copied into
the memory that it reads; the learning rate lies on the device, where it can change (`optim.make_capturable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.precision import Precision
from layerwise.training.objectives import Objective, Terms, total
from layerwise.training.team import Forward

WARM_UP = 3
"""Steps before the capture, in which libraries choose their kernels and the optimizer makes its buffers (PyTorch's
advice)."""

GRADIENT = "gradient/"
"""Begins the names of the terms that are norms of gradients."""

Result = TypeVar("Result")


class TrainingStep(Protocol):
    """What the training loop does with a batch."""

    def __call__(self, inputs: Tensor, targets: Tensor, loss_scale: float = 1.0, parts: int = 1) -> Terms:
        """Updates the parameters and returns the terms of the objective.

        Args:
            inputs: features x_start [B, …].
            targets: labels [B] or inputs [B, …].
            loss_scale: factor on the loss; see `Team.loss_scale`.
            parts: in which the gradient is computed, one after another.
        """


class EagerStep:
    """A step of single operations, for batches of any size.

    Args:
        optimizer: optimizer of `parameters`.
        scaler: loss scaling of float16; see `Precision.grad_scaler`.
        clip_norm: upper bound on the gradient's norm, or None.
        measured: parameters by name, of which the gradient's norm is measured in each step, before it is clipped.
        unsynchronised: context of all parts of a batch but the last; see `Team.unsynchronised`.
    """

    def __init__(
        self,
        forward: Forward,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        precision: Precision,
        scaler: torch.amp.GradScaler,
        clip_norm: float | None,
        measured: Mapping[str, Sequence[nn.Parameter]] | None = None,
        unsynchronised: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.forward, self.objective, self.optimizer, self.parameters = forward, objective, optimizer, parameters
        self.precision, self.scaler, self.clip_norm = precision, scaler, clip_norm
        self.measured, self.unsynchronised = measured or {}, unsynchronised

    def __call__(self, inputs: Tensor, targets: Tensor, loss_scale: float = 1.0, parts: int = 1) -> Terms:
        for parameter in self.parameters:
            parameter.grad = None
        terms = self._add_gradients(inputs, targets, loss_scale, parts)
        if self.clip_norm is not None or self.measured:
            self.scaler.unscale_(self.optimizer)
        for name, parameters in self.measured.items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            terms["means"][GRADIENT + name] = [nn.utils.get_total_norm(gradients)]
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return terms

    def _add_gradients(self, inputs: Tensor, targets: Tensor, loss_scale: float, parts: int) -> Terms:
        """Adds the gradient of a batch to the parameters', and returns its terms."""
        if parts == 1:
            with self.precision.autocast():
                terms = self.objective(self.forward(inputs), targets)
                loss = terms["loss"] if loss_scale == 1 else terms["loss"] * loss_scale
            self.scaler.scale(loss).backward()
            return terms
        pieces = list(zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True))
        shares = [len(some) / len(targets) for _, some in pieces]
        found = []
        for i, (x, some) in enumerate(pieces):
            with self.unsynchronised() if i < parts - 1 else nullcontext():
                found.append(_detached(self._add_gradients(x, some, loss_scale * shares[i], parts=1)))
        return _mean(found, shares)


def _mean(terms: Sequence[Terms], shares: Sequence[float]) -> Terms:
    """Returns the terms of a batch from those of its parts.

    Args:
        shares: of the batch's samples that the parts have.
    """

    def added(values: Iterable[Sequence[Tensor]], factors: Sequence[float]) -> list[Tensor]:
        return [total([f * v for f, v in zip(factors, of_head, strict=True)]) for of_head in zip(*values, strict=True)]

    means = {name: added((one["means"][name] for one in terms), shares) for name in terms[0]["means"]}
    counts = {
        name: [sum(v) for v in zip(*(one["counts"][name] for one in terms), strict=True)] for name in terms[0]["counts"]
    }
    return {"loss": added(([one["loss"]] for one in terms), shares)[0], "means": means, "counts": counts}


class DeviceGraph(Protocol):
    """A sequence of operations that a device captures once and replays."""

    def warm_up(self, work: Callable[[], Result]) -> Result:
        """Does some work on the stream that will capture it."""

    def capture(self, work: Callable[[], Result]) -> Result:
        """Captures some work without doing it; its results get their values at each `replay`."""

    def replay(self) -> None:
        """Does the captured work."""


class CudaGraph:
    """A `DeviceGraph` of a GPU's kernels."""

    def __init__(self, device: torch.device) -> None:
        self.stream, self.graph = _capture_stream(device), torch.cuda.CUDAGraph()

    def warm_up(self, work: Callable[[], Result]) -> Result:
        present = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(present)
        with torch.cuda.stream(self.stream):
            result = work()
        present.wait_stream(self.stream)
        return result

    def capture(self, work: Callable[[], Result]) -> Result:
        # thread_local: threads that read the next batches ahead may go on
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        self.graph.replay()


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns the one stream on which all graphs of a device are captured: libraries keep memory for each stream."""
    return torch.cuda.Stream(device)


class CapturedStep:
    """Replays a step on batches of one size; a batch of another size, the last of an epoch, takes the eager step.

    Args:
        step: the same step, operation by operation.
        images: size of the batches that are replayed.
    """

    def __init__(self, step: TrainingStep, graph: DeviceGraph, images: int) -> None:
        self.step, self.graph, self.images = step, graph, images
        self._to_warm_up = WARM_UP
        self._memory: tuple[Tensor, Tensor] | None = None  # inputs and targets that the graph reads
        self._terms: Terms | None = None  # that it writes

    def __call__(self, inputs: Tensor, targets: Tensor, loss_scale: float = 1.0, parts: int = 1) -> Terms:
        if len(targets) != self.images:
            return self.step(inputs, targets, loss_scale, parts)
        if self._to_warm_up:
            self._to_warm_up -= 1
            return self.graph.warm_up(lambda: self.step(inputs, targets, loss_scale, parts))
        if self._memory is None or self._terms is None:
            self._memory = own = inputs.clone(), targets.clone()
            self._terms = self._capture(lambda: _detached(self.step(*own, loss_scale, parts)))
        for memory, value in zip(self._memory, (inputs, targets), strict=True):
            memory.copy_(value)
        self.graph.replay()
        return _copied(self._terms)

    def _capture(self, work: Callable[[], Terms]) -> Terms:
        try:
            return self.graph.capture(work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            cause = error.__context__ or error  # PyTorch raises another error when it ends a failed capture
            raise LayerwiseError(
                "compile=true: a training step cannot be captured as a CUDA graph "
                f"({str(cause).strip().partition(chr(10))[0]}). "
                "Use compile=false; finished blocks and checkpoints are kept."
            ) from error


def _detached(terms: Terms) -> Terms:
    """Returns the terms with a loss that keeps no autograd node alive: later steps would reuse the capture's stream."""
    return {**terms, "loss": terms["loss"].detach()}


def _copied(terms: Terms) -> Terms:
    """Returns the terms in memory of their own, which the next replay does not overwrite."""
    return {
        "loss": terms["loss"],
        "means": {name: [value.clone() for value in values] for name, values in terms["means"].items()},
        "counts": {name: [value.clone() for value in values] for name, values in terms["counts"].items()},
    }
