"""Optimiser, learning-rate schedules, and the restart of the momentum at a decay.

A schedule is a pure function of the progress through the stage, so nothing of it needs saving.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Schedule(Protocol):
    """Factor on the base learning rate at a progress in [0, 1)."""

    @property
    def decays_in_steps(self) -> bool:
        """Whether the factor is constant but for a few drops."""

    def __call__(self, progress: float) -> float: ...


@dataclass(frozen=True)
class StepDecay:
    """×gamma after each further fraction `every` of the stage (CIFAR-10: ×0.2 each 15 of 50 epochs)."""

    every: float
    gamma: float
    decays_in_steps: bool = True

    def __call__(self, progress: float) -> float:
        return float(self.gamma ** math.floor(progress / self.every + 1e-9))  # 1e-9: 0.9 / 0.3 must give 3


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to 0."""

    decays_in_steps: bool = False

    def __call__(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class OneCycle:
    """Linear warm-up from 1/25 to 1 in the first `warmup` of the stage, then linear to `final`."""

    warmup: float = 0.25
    final: float = 0.0
    decays_in_steps: bool = False

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return 0.04 + 0.96 * progress / self.warmup
        return self.final + (1 - self.final) * (1 - progress) / (1 - self.warmup)


@dataclass(frozen=True)
class Constant:
    """Factor 1 throughout."""

    decays_in_steps: bool = False

    def __call__(self, progress: float) -> float:
        return 1.0


Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""What an optimiser is over: parameters, or groups of them."""


def without_norm_decay(parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Two groups, of which the second is exempt from the weight decay: vectors, which are biases and those of norms."""
    matrices, vectors = ([p for p in parameters if (p.dim() > 1) is matrix] for matrix in (True, False))
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


def sgd(parameters: Parameters, *, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> torch.optim.SGD:
    """SGD as one fused kernel over all parameters.

    Nothing is exempt from the weight decay, as in the paper's code, unless a group of parameters says so.
    """
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )


def adam(parameters: Parameters, *, lr: float, weight_decay: float) -> torch.optim.Adam:
    """Adam as one fused kernel over all parameters."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def adamw(parameters: Parameters, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Adam with a weight decay of its own beside the gradient, as one fused kernel."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def can_be_captured(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its update may be part of a CUDA graph: as one fused kernel it asks the device for nothing."""
    known = isinstance(optimizer, (torch.optim.SGD, torch.optim.Adam))  # AdamW is one, too
    return known and all(group.get("fused") for group in optimizer.param_groups)


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Lets an update be recorded: what changes from step to step lies on the device, as the learning rate does then.

    PyTorch would warn that steps before the recording are slower than they need be; they are few.
    """
    optimizer._warned_capturable_if_run_uncaptured = True
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if "capturable" in group:
            group["capturable"] = True


def portable_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state without what `make_capturable` changed, so that it may go on without that."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        if "capturable" in group:
            group["capturable"] = False
    return state


def restart_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Forgets the momentum, as the paper's code does by making a new optimiser at each decay.

    A zero buffer and a missing one give the same next step (SGD without dampening).
    """
    for state in optimizer.state.values():
        if (buffer := state.get("momentum_buffer")) is not None:
            buffer.zero_()
