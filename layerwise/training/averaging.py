"""An exponential moving average of a stage's weights, which replaces the weights of the last step in evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

WARM_UP = 9
"""The t-th average (from 0) keeps at most t/(t + WARM_UP) of the one before: it spans a tenth of the steps so far."""


class WeightAverage:
    """Averages the trained parameters and the statistics of batch norms.

    The average begins at the weights after the first step. Its decay warms up, so that short stages forget their first
    steps, too.

    Args:
        module: module whose weights are averaged, on its final device.
        decay: share of the average that each step keeps. With 0 there is no average, and every method is a no-op.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        trained = [parameter.detach() for parameter in module.parameters() if parameter.requires_grad]
        statistics = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        self.decay = decay
        self.updates = 0
        self._weights = [*trained, *statistics] if decay else []
        self._averages = [weight.clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Adds the weights after a step. Does not wait for the device."""
        if self._weights:
            kept = min(self.decay, self.updates / (self.updates + WARM_UP))
            torch._foreach_lerp_(self._averages, self._weights, 1 - kept)
            self.updates += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the module has the averages as its weights; changes that are made to them are kept."""
        weights = [weight.clone() for weight in self._weights]
        self.adopt()
        try:
            yield
        finally:
            _copy(self._weights, self._averages)
            _copy(weights, self._weights)

    def adopt(self) -> None:
        """Replaces the weights by the averages for good."""
        _copy(self._averages, self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "averages": self._averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.updates = state["updates"]
        for average, saved in zip(self._averages, state["averages"], strict=True):
            average.copy_(saved)  # keeps its memory format


@torch.no_grad()
def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)
