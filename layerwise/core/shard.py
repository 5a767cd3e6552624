"""Which samples a process holds where several share a data set: every N-th."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Samples `rank`, `rank + ranks`, `rank + 2 ranks`, … of a sequence; by default all of them."""

    rank: int = 0
    ranks: int = 1

    def size(self, n: int) -> int:
        """How many of the first n samples it holds."""
        return len(range(self.rank, n, self.ranks))

    def most(self, n: int) -> int:
        """How many of the first n samples any shard holds at most."""
        return -(-n // self.ranks)

    def positions(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """int64 [size(n)]: which of the first n samples it holds."""
        return torch.arange(self.rank, n, self.ranks, device=device)

    def whole(self, parts: list[Tensor]) -> Tensor:
        """The sequence [n, …] again, from the parts that all shards hold, in order of rank."""
        n = sum(len(part) for part in parts)
        whole = parts[0].new_empty(n, *parts[0].shape[1:])
        for rank, part in enumerate(parts):
            whole[rank :: self.ranks] = part
        return whole


EVERYTHING = Shard()
"""The shard of a process that shares with none."""
