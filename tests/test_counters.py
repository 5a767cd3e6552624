"""Stateless randomness."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from layerwise.core.randomness import below, bits, key, permutation, seeded


def test_keys_and_bits_are_the_same_on_every_machine_and_in_every_version():
    assert key("augment", 0, 3) == -1603803506748018167
    expected = [-4818928598472034712, -634925059240279806, 4601364024939295406]
    assert bits(key("augment", 0, 3), torch.arange(3)).tolist() == expected


@given(st.integers(0, 2**31), st.integers(1, 500))
def test_a_permutation_holds_each_position_once(seed, n):
    assert permutation(key("order", seed), n).sort().values.tolist() == list(range(n))


def test_bits_are_balanced_and_families_differ():
    a, b = bits(key("x", 1), torch.arange(20_000)), bits(key("x", 2), torch.arange(20_000))
    ones = torch.stack([((a >> i) & 1).float().mean() for i in range(64)])
    assert (ones - 0.5).abs().max() < 0.02
    agreement = torch.stack([(((a ^ b) >> i) & 1).float().mean() for i in range(64)])
    assert (agreement - 0.5).abs().max() < 0.02


@given(st.integers(1, 1000), st.integers(0, 2))
def test_below_stays_in_range(n, lane):
    draws = below(bits(key("below"), torch.arange(2000)), n, lane)
    assert draws.min() >= 0
    assert draws.max() < n


def test_below_is_uniform_in_each_lane():
    for lane in range(3):
        counts = torch.bincount(below(bits(key("u"), torch.arange(90_000)), 9, lane), minlength=9)
        assert (counts - 10_000).abs().max() < 500


def test_seeded_restores_the_stream_outside():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with seeded(key("a")):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(key("a")):
        assert torch.equal(torch.rand(3), first)
