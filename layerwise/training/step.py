"""One training step on the device: forward, loss, backward and update. Nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from layerwise.core.precision import Precision
from layerwise.training.objectives import Objective, Terms
from layerwise.training.team import Forward


class TrainingStep(Protocol):
    """What the loop does with a batch."""

    def __call__(self, inputs: Tensor, targets: Tensor, share: float = 1.0) -> Terms:
        """Updates the parameters and tells what the objective gave.

        Args:
            inputs: features x_start [B, …].
            targets: labels [B] or inputs [B, …].
            share: factor on the loss; see `Team.share`.
        """


class EagerStep:
    """Operation by operation, for batches of any size.

    Args:
        forward: from features to the readouts of the heads.
        objective: from readouts and targets to the loss.
        optimizer: over `parameters`.
        parameters: that are trained.
        precision: of forward and backward passes.
        scaler: of the loss; see `Precision.grad_scaler`.
        clip_norm: bound on the gradient's norm, or None.
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
    ) -> None:
        self.forward, self.objective, self.optimizer, self.parameters = forward, objective, optimizer, parameters
        self.precision, self.scaler, self.clip_norm = precision, scaler, clip_norm

    def __call__(self, inputs: Tensor, targets: Tensor, share: float = 1.0) -> Terms:
        with self.precision.autocast():
            terms = self.objective(self.forward(inputs), targets)
            loss = terms["loss"] if share == 1 else terms["loss"] * share
        for parameter in self.parameters:
            parameter.grad = None
        self.scaler.scale(loss).backward()
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return terms
