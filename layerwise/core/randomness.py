"""Randomness without state: every draw is a pure function of a key and a counter.

A draw from a generator depends on all draws before it. Here `key("crop", seed, view)` names a family of
draws, and `bits(key, sample)` are the 64 random bits of one sample, on any device, in any batch, in any
order. So a resumed run equals an uninterrupted one, and a cached view equals a recomputed one.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def key(*parts: int | str) -> int:
    """Hash the parts to a 64-bit key (a signed integer) of a family of draws, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _shift_right(z: Tensor, n: int) -> Tensor:
    return (z >> n) & ((1 << (64 - n)) - 1)  # logical shift: that of int64 keeps the sign


def bits(family: int, counters: Tensor) -> Tensor:
    """Draw 64 random bits for each counter.

    Args:
        family: result of `key`.
        counters: int64 tensor of any shape, such as sample numbers.

    Returns:
        int64 tensor of the same shape and device.
    """
    z = counters * _GAMMA + family
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def below(random_bits: Tensor, n: int, lane: int) -> Tensor:
    """Turn one of the three 21-bit lanes of `bits` into uniform integers in [0, n).

    Their bias is below n / 2^21.
    """
    field = (random_bits >> (21 * lane)) & 0x1FFFFF
    return (field * n) >> 21


def permutation(family: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Random permutation of 0 … n−1, int64 [n], the same on every device."""
    return torch.argsort(bits(family, torch.arange(n, device=device)), stable=True)


@contextmanager
def seeded(family: int) -> Iterator[None]:
    """Seed torch's CPU generator for the code inside (initialisations), and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(family)
        yield
