"""The part of a data set that one of N processes holds: every N-th sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Samples `rank`, `rank + ranks`, `rank + 2 ranks`, … of a sequence; by default every sample."""

    rank: int = 0
    ranks: int = 1

    def size(self, n: int) -> int:
        """Number of the first n samples in this shard."""
        return len(range(self.rank, n, self.ranks))

    def most(self, n: int) -> int:
        """Number of the first n samples in the largest shard."""
        return -(-n // self.ranks)

    def positions(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Positions of this shard among the first n samples, int64 [size(n)]."""
        return torch.arange(self.rank, n, self.ranks, device=device)

    def whole(self, parts: list[Tensor]) -> Tensor:
        """Interleave the parts of all shards, in order of rank, to the sequence [n, …]."""
        n = sum(len(part) for part in parts)
        whole = parts[0].new_empty(n, *parts[0].shape[1:])
        for rank, part in enumerate(parts):
            whole[rank :: self.ranks] = part
        return whole


EVERYTHING = Shard()
"""The shard of a process that is alone."""
