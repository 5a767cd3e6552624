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
from torch.nn.modules.batchnorm import _BatchNorm


class Schedule(Protocol):
    """The factor on the base learning rate at a progress in [0, 1) through the stage."""

    @property
    def decays_in_steps(self) -> bool:
        """Whether the factor is constant except at a few decays."""

    def __call__(self, progress: float) -> float: ...


@dataclass(frozen=True)
class StepDecay:
    """×gamma after each fraction `every` of the stage (CIFAR-10: ×0.2 after every 15 of 50 epochs).

    Attributes:
        at: fractions of the stage; not empty: ×gamma after each of these instead.
    """

    every: float
    gamma: float
    at: Sequence[float] = ()
    decays_in_steps: bool = True

    def __call__(self, progress: float) -> float:
        if self.at:
            return float(self.gamma ** sum(progress + 1e-9 >= one for one in self.at))
        return float(self.gamma ** math.floor(progress / self.every + 1e-9))  # 1e-9: 0.9 / 0.3 must give 3


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to 0."""

    decays_in_steps: bool = False

    def __call__(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class OneCycle:
    """Linear warm-up from `start` to 1 in the first `warmup` of the stage, then linear to `final`."""

    warmup: float = 0.25
    final: float = 0.0
    start: float = 0.04
    decays_in_steps: bool = False

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return self.start + (1 - self.start) * progress / self.warmup
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


def with_shift_lr(
    groups: Sequence[dict[str, Any]], module: nn.Module, factor: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Returns the groups, from which the shifts of batch norms are moved to groups with a learning rate of their own.

    Args:
        groups: groups of parameters of `module`.
        factor: factor on the learning rate of the shifts; their weight decay is divided by it, so that a step shrinks
            them as much as the other parameters.
        weight_decay: weight decay of groups that do not say theirs.
    """
    shifts = {norm.bias for norm in module.modules() if isinstance(norm, _BatchNorm)}
    split: list[dict[str, Any]] = []
    for group in groups:
        decay = group.get("weight_decay", weight_decay) / factor
        split.append({**group, "params": [p for p in group["params"] if p not in shifts]})
        moved = [p for p in group["params"] if p in shifts]
        split.append({**group, "params": moved, "lr_factor": factor, "weight_decay": decay})
    return [group for group in split if group["params"]]


def sgd(parameters: Parameters, *, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> torch.optim.SGD:
    """SGD as one fused kernel over all parameters.

    As in the paper's code, the weight decay applies to every parameter whose group does not override it.
    """
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )


ADAM_EPSILON = 1e-8
"""PyTorch's default; Keras has 1e-7."""


def adam(parameters: Parameters, *, lr: float, weight_decay: float, epsilon: float = ADAM_EPSILON) -> torch.optim.Adam:
    """Adam as one fused kernel over all parameters."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, eps=epsilon, fused=True)


def adamw(
    parameters: Parameters, *, lr: float, weight_decay: float, epsilon: float = ADAM_EPSILON
) -> torch.optim.AdamW:
    """Adam with decoupled weight decay, as one fused kernel over all parameters."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, eps=epsilon, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all groups, each times its `lr_factor` if it has one."""
    for group in optimizer.param_groups:
        value = lr * group.get("lr_factor", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def can_be_captured(optimizer: torch.optim.Optimizer) -> bool:
    """Returns whether a CUDA graph can hold the update: a fused kernel never waits for the GPU."""
    known = type(optimizer) in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)  # not a subclass of another kind
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
