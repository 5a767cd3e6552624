"""Muon for the kernels of convolutions, and SGD for everything else (Jordan et al. 2024, as in airbench94)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from layerwise.training.optim import Parameters

MOMENTUM = 0.6
"""μ, that of airbench94."""

STEPS, COEFFICIENTS = 3, (3.4445, -4.7750, 2.0315)
"""Of the Newton–Schulz iteration X ← aX + (bA + cA²)X with A = XXᵀ."""


class MuonSGD(torch.optim.SGD):
    """SGD in which the groups with `muon` step along orthogonalised momenta.

    Of a kernel W [out, in, h, w] with gradient G: M ← μM + G, W ← √out · W / |W| − lr · orthogonal(G + μM). The kernels
    keep their norm, so they need no weight decay and a batch norm behind them.

    Args:
        parameters: groups as `with_muon` returns them.
        momentum, weight_decay, nesterov: of SGD.
    """

    def __init__(
        self, parameters: Parameters, *, lr: float, momentum: float, weight_decay: float, nesterov: bool
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)
        self._step_supports_amp_scaling = False  # a gradient scaler divides by its scale before the step

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Takes one step with all parameters that have a gradient."""
        groups = self.param_groups
        for group in groups:
            for kernel in group["params"] if group.get("muon") else ():
                if kernel.grad is not None:
                    self._step_kernel(kernel, kernel.grad, group["lr"])
        self.param_groups = [group for group in groups if not group.get("muon")]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _step_kernel(self, kernel: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(kernel)
        buffer = state["momentum_buffer"]
        buffer.mul_(MOMENTUM).add_(gradient)
        direction = gradient.add(buffer, alpha=MOMENTUM).reshape(len(kernel), -1)  # [out, in · h · w]
        kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
        kernel.add_(orthogonal(direction).view_as(kernel), alpha=-lr)


def orthogonal(matrix: Tensor) -> Tensor:
    """Returns about U Vᵀ of a matrix U S Vᵀ: a few Newton–Schulz steps bring its singular values near 1.

    Args:
        matrix: [m, n].
    """
    a, b, c = COEFFICIENTS
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def with_muon(groups: Sequence[dict[str, Any]], factor: float) -> list[dict[str, Any]]:
    """Returns the groups, from which the kernels of convolutions are moved to groups for Muon.

    Args:
        factor: their learning rate, as a factor on that of the run.
    """
    split: list[dict[str, Any]] = []
    for group in groups:
        split.append({**group, "params": [p for p in group["params"] if p.dim() != 4]})
        kernels = [p for p in group["params"] if p.dim() == 4]
        split.append({**group, "params": kernels, "muon": True, "lr_factor": factor})
    return [group for group in split if group["params"]]
