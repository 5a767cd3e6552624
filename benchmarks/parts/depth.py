"""The cost of a step over depth, with a cache and without."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.steps import (
    BATCH,
    ReadyInputs,
    block_segment,
    images_on,
    network,
    precision_on,
    stepper,
    take_turns,
    trainer_of,
)
from layerwise.core.interrupt import StopRequest
from layerwise.features.batches import BatchPlan
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.sources import Cached, Recompute
from layerwise.features.store import FeatureStores


def measure(device: torch.device) -> dict[str, Any]:
    """A step of block j for j = 1 … 8 of k = 3: exact cache, no cache, and the block alone on ready inputs."""
    J, width = 8, 32
    net = network(width, width, J).to(device, memory_format=torch.channels_last)
    precision = precision_on(device)
    codec = FeatureCodec(FeatureDtype(precision.name))
    data = images_on(device, n=10 * BATCH, augment=False)  # without augmentation one view is exact
    plan = BatchPlan(BATCH, seed=0)
    cached = Cached(Recompute(data, plan, precision), FeatureStores(codec, folder=None), 1, StopRequest())
    recompute = Recompute(data, plan, precision)
    figures: dict[str, Any] = {}
    for depth in range(1, J + 1):
        if depth > 1:
            cached.advance([net.blocks[depth - 2]])
            recompute.advance([net.blocks[depth - 2]])
        ready = list(cached.train(0, 0))
        loops = [
            stepper(trainer_of(block_segment(net, depth), device), source)
            for source in (ReadyInputs(ready), cached, recompute)
        ]
        alone, with_cache, without = take_turns(loops, rounds=5, steps=3, device=device)
        figures[f"j = {depth}"] = {
            "alone_seconds": alone,
            "cached_ratio": with_cache / alone,
            "recomputed_ratio": without / alone,
        }
    return figures
