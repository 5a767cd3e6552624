"""Sums over the samples of an epoch, added up on the device so that no step waits for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layerwise.training.objectives import Terms

EVERY = 64
"""Steps whose terms are added up together: a few small operations in every step would take a good part of the time of a
small network."""


class RunningSums:
    """Sums of an objective's terms over the samples of an epoch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clear()

    def clear(self) -> None:
        """Starts an epoch."""
        self.totals: dict[str, Tensor] = {}  # [D] float64 each
        self.means: list[_Scalars] = []  # terms of the steps that are not in the totals yet
        self.counts: list[_Scalars] = []
        self.sizes: list[int] = []  # samples of these steps
        self.images = self.steps = 0
        self._first_bad_step = torch.full((), -1, device=self.device)  # among those in the totals; −1: all are finite

    def add(self, terms: Terms, images: int) -> None:
        """Adds one step's terms for a batch of `images` samples."""
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
        """Returns the sums up to the last step by name, [D] float64 each."""
        if not self.sizes:
            return self.totals
        images: int | Tensor = self.sizes[0]
        if self.sizes[-1] != images:  # only after the last batch of an epoch: this copy waits for a GPU
            images = torch.tensor(self.sizes, device=self.device)[:, None]
        sums = {name: table.double() * images for name, table in _stacked(self.means).items()} | _stacked(self.counts)
        now = {name: table.double().sum(dim=0) for name, table in sums.items()}
        return {name: total + self.totals[name] for name, total in now.items()} if self.totals else now

    def first_bad_step(self) -> int | None:
        """Returns the first step of the epoch, from 0, whose loss is not finite, or None. Waits for the device."""
        found = int(self._first_bad_step)
        if found < 0 and self.sizes:
            found = int(self._first_bad_recently())
        return None if found < 0 else found

    def _first_bad_recently(self) -> Tensor:
        """Returns a scalar: the first such step that is not in the totals yet, or −1."""
        bad = ~torch.isfinite(_stacked(self.means)["loss"]).all(dim=1)
        return torch.where(bad.any(), self.steps - len(self.sizes) + bad.int().argmax(), -1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for `load_state_dict`; restored sums continue with the same bits."""
        return {
            "totals": self.totals,
            "means": _stacked(self.means),
            "counts": _stacked(self.counts),
            "sizes": self.sizes,
            "images": self.images,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.totals = {name: total.to(self.device) for name, total in state["totals"].items()}
        self.sizes = state["sizes"]
        self.means, self.counts = (
            _unstacked(state[kind], len(self.sizes), self.device) for kind in ("means", "counts")
        )
        self.images, self.steps = state["images"], state["steps"]


_Scalars = dict[str, list[Tensor]]
"""Terms of one step: a scalar per head by name."""


def _stacked(steps: list[_Scalars]) -> dict[str, Tensor]:
    """Returns a table [steps, D] by name."""
    names = steps[0] if steps else {}
    return {name: torch.stack([s for step in steps for s in step[name]]).view(len(steps), -1) for name in names}


def _unstacked(tables: dict[str, Tensor], steps: int, device: torch.device) -> list[_Scalars]:
    """Inverts `_stacked`."""
    return [{name: list(table[i].to(device)) for name, table in tables.items()} for i in range(steps)]
