"""Where a cache goes: decided from sizes alone, before anything is trained."""

from __future__ import annotations

import pytest
import torch

from helpers.caches import decide_small
from layerwise.core.errors import LayerwiseError
from layerwise.features import cache_plan
from layerwise.features.cache_plan import CacheDecision, peak_bytes
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SIZE = 100 * 64 * 4
"""Bytes of 100 samples of 64 float32 features."""


@pytest.fixture
def decide(tmp_path, monkeypatch):
    def with_free(kind: str, device: torch.device, on_host: int, on_gpu: int = 0, budget=None) -> CacheDecision:
        free = {"cpu": on_host, "cuda": on_gpu}
        monkeypatch.setattr(cache_plan, "available_memory", lambda where: free[where.type])
        return decide_small(kind, tmp_path, budget_bytes=budget, device=device)

    return with_free


@pytest.mark.parametrize("kind", ["memory", "auto"])
def test_a_memory_cache_is_the_gpus_where_half_of_what_is_free_there_holds_it(decide, kind):
    assert decide(kind, CPU, on_host=2 * SIZE).place == "host"
    assert decide(kind, GPU, on_host=0, on_gpu=2 * SIZE).place == "device"
    decision = decide(kind, GPU, on_host=2 * SIZE, on_gpu=2 * SIZE - 2)
    assert (decision.kind, decision.place, decision.bytes) == ("memory", "host", SIZE)


def test_a_budget_bounds_the_gpus_memory_but_never_opens_the_other_half(decide):
    plenty = 100 * SIZE
    assert decide("memory", GPU, on_host=plenty, on_gpu=plenty, budget=SIZE).place == "device"
    assert decide("memory", GPU, on_host=plenty, on_gpu=2 * SIZE - 2, budget=plenty).place == "host"
    with pytest.raises(LayerwiseError, match=r"cache\.budget_gb"):
        decide("memory", GPU, on_host=plenty, on_gpu=plenty, budget=SIZE - 1)
    assert decide("auto", GPU, on_host=plenty, on_gpu=plenty, budget=SIZE - 1).kind == "none"


def test_where_neither_memory_holds_it_nothing_is_cached(decide):
    decision = decide("auto", GPU, on_host=SIZE, on_gpu=SIZE)
    assert (decision.kind, decision.place, decision.bytes) == ("none", None, 0)
    with pytest.raises(LayerwiseError, match="cache=memory"):
        decide("memory", GPU, on_host=SIZE, on_gpu=SIZE)


def test_a_cache_is_exact_only_where_blocks_return_the_format_that_is_stored(tmp_path):
    """A sum with a parameter is float32 under autocast, as the tokens of a vision transformer are."""
    for dtype, returned, exact in (("bfloat16", True, True), ("bfloat16", False, False), ("float32", False, True)):
        words = {"computed": getattr(torch, dtype), "codec": FeatureCodec(FeatureDtype(dtype)), "returned": returned}
        assert decide_small("memory", tmp_path, **words).exact is exact
        assert decide_small("auto", tmp_path, **words).kind == ("memory" if exact else "none")


def test_a_disk_cache_stays_on_the_disk(decide):
    assert decide("disk", GPU, on_host=0, on_gpu=100 * SIZE).place == "disk"


def test_the_cache_counts_all_views_and_the_held_out_images_while_the_next_depth_is_written():
    codec = FeatureCodec(FeatureDtype.float32)
    image = 4 * (8 * 6 * 6 + 16 * 3 * 3)  # bytes of one image at both depths
    assert peak_bytes([(8, 6, 6), (16, 3, 3)], images=10, views=3, held_out=5, codec=codec) == image * (10 * 3 + 5)
