"""Optimizers, learning-rate schedules, and the restart of the momentum at a decay.

A schedule is a pure function of the progress through the stage, so checkpoints need not hold it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Schedule(Protocol):
    """The factor on the base learning rate at a progress in [0, 1) through the stage."""

    @property
    def decays_in_steps(self) -> bool:
        """Whether the factor is constant except at a few decays."""

    def __call__(self, progress: float) -> float: ...


@dataclass(frozen=True)
class StepDecay:
    """×gamma after each fraction `every` of the stage (CIFAR-10: ×0.2 after every 15 of 50 epochs)."""

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
"""What an optimizer takes: parameters, or groups of them."""


def without_norm_decay(parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Returns two groups. The second, of vectors (biases and the parameters of norms), has no weight decay."""
    matrices, vectors = ([p for p in parameters if (p.dim() > 1) is matrix] for matrix in (True, False))
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


def sgd(parameters: Parameters, *, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> torch.optim.SGD:
    """SGD as one fused kernel over all parameters.

    As in the paper's code, the weight decay applies to every parameter whose group does not override it.
    """
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )


def adam(parameters: Parameters, *, lr: float, weight_decay: float) -> torch.optim.Adam:
    """Adam as one fused kernel over all parameters."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def adamw(parameters: Parameters, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Adam with decoupled weight decay, as one fused kernel over all parameters."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def can_be_captured(optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether a CUDA graph can hold the update: a fused kernel never waits for the GPU."""
    known = isinstance(optimizer, (torch.optim.SGD, torch.optim.Adam))  # AdamW is a subclass of Adam
    return known and all(group.get("fused") for group in optimizer.param_groups)


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Prepares an optimizer for a CUDA graph: the learning rate and the step count are kept on the device.

    PyTorch would warn about slow steps before the capture; there are only a few, so the warning is off.
    """
    optimizer._warned_capturable_if_run_uncaptured = True
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if "capturable" in group:
            group["capturable"] = True


def portable_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns the optimizer's state without the changes of `make_capturable`, which a resumed run need not make."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        if "capturable" in group:
            group["capturable"] = False
    return state


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restores an optimizer's state; each buffer gets the memory format of its parameter."""
    optimizer.load_state_dict(state)
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter).copy_(value)


def restart_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Clears the momentum, as the paper's code does by making a new optimizer at each decay.

    A zero buffer gives the same next step as a missing one (SGD without dampening).
    """
    for state in optimizer.state.values():
        if (buffer := state.get("momentum_buffer")) is not None:
            buffer.zero_()
