"""What an epoch gave, added up on the device so that no step waits for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layerwise.training.objectives import Terms

EVERY = 64
"""Steps after which what they gave is added up: a few small operations a step would be a good part of the time of a
small network."""


class RunningSums:
    """Sums of what an objective reports over the samples of an epoch.

    Args:
        device: where losses are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clear()

    def clear(self) -> None:
        """Begins an epoch."""
        self.totals: dict[str, Tensor] = {}  # [D] float64 each
        self.means: list[_Scalars] = []  # of the steps that are not in the totals yet
        self.counts: list[_Scalars] = []
        self.sizes: list[int] = []  # samples of these steps
        self.images = self.steps = 0
        self._first_bad_step = torch.full((), -1, device=self.device)  # of those in the totals; −1 while all are finite

    def add(self, terms: Terms, images: int) -> None:
        """Takes what a step gave on a batch of so many samples."""
        self.means.append(terms["means"])
        self.counts.append(terms["counts"])
        self.sizes.append(images)
        self.images += images
        self.steps += 1
        if len(self.sizes) == EVERY:
            self._first_bad_step = torch.where(
                self._first_bad_step < 0, self._first_bad_recently(), self._first_bad_step
            )
            self.totals = self.now()
            self.means, self.counts, self.sizes = [], [], []

    def now(self) -> dict[str, Tensor]:
        """All sums up to the last step, [D] float64 by name."""
        if not self.sizes:
            return self.totals
        images: int | Tensor = self.sizes[0]
        if self.sizes[-1] != images:  # the last batch of an epoch; to send sizes to a GPU waits for it
            images = torch.tensor(self.sizes, device=self.device)[:, None]
        sums = {name: table.double() * images for name, table in _stacked(self.means).items()} | _stacked(self.counts)
        now = {name: table.double().sum(dim=0) for name, table in sums.items()}
        return {name: total + self.totals[name] for name, total in now.items()} if self.totals else now

    def first_bad_step(self) -> int | None:
        """The first step of the epoch, from 0, whose loss is not finite, or None. Waits for the device."""
        found = int(self._first_bad_step)
        if found < 0 and self.sizes:
            found = int(self._first_bad_recently())
        return None if found < 0 else found

    def _first_bad_recently(self) -> Tensor:
        """Scalar: the first such step that is not in the totals yet, or −1."""
        bad = ~torch.isfinite(_stacked(self.means)["loss"]).all(dim=1)
        return torch.where(bad.any(), self.steps - len(self.sizes) + bad.int().argmax(), -1)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs; sums that are restored go on to the bit."""
        return {
            "totals": self.totals,
            "means": _stacked(self.means),
            "counts": _stacked(self.counts),
            "sizes": self.sizes,
            "images": self.images,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.totals = {name: total.to(self.device) for name, total in state["totals"].items()}
        self.sizes = state["sizes"]
        self.means, self.counts = (
            _unstacked(state[kind], len(self.sizes), self.device) for kind in ("means", "counts")
        )
        self.images, self.steps = state["images"], state["steps"]


_Scalars = dict[str, list[Tensor]]
"""What one step gives: by name, a scalar per head."""


def _stacked(steps: list[_Scalars]) -> dict[str, Tensor]:
    """[steps, D] by name"""
    names = steps[0] if steps else {}
    return {name: torch.stack([s for step in steps for s in step[name]]).view(len(steps), -1) for name in names}


def _unstacked(tables: dict[str, Tensor], steps: int, device: torch.device) -> list[_Scalars]:
    """What `_stacked` was given."""
    return [{name: list(table[i].to(device)) for name, table in tables.items()} for i in range(steps)]
