"""Costs of holding x_1 in a cache and of advancing the cache to x_2."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.steps import (
    BATCH,
    block_segment,
    images_on,
    network,
    precision_on,
    reader,
    seconds_of,
    stepper,
    synchronise,
    take_turns,
    trainer_of,
)
from layerwise.core.interrupt import StopRequest
from layerwise.features.batches import BatchPlan
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.sources import Cached, Recompute
from layerwise.features.store import FeatureStores
from layerwise.models.blocknet import BlockNet


def measure(device: torch.device, width: int = 128, head_width: int = 256, batches: int = 8) -> dict[str, Any]:
    """Writing, reading (both GB/s) and advancing a cache in memory and on the disk, in the format that blocks compute.

    The shares are of a training step of block 2 of the k = 3 network: for a batch's features to be written, to be
    read in random order, and to be advanced through a block, which is once a view. What was written to the disk lies
    in the system's cache when it is read.
    """
    figures: dict[str, Any] = {}
    for place in ("memory", "disk"):
        net = network(width, head_width, J=2).to(device, memory_format=torch.channels_last)
        with tempfile.TemporaryDirectory() as folder:
            stores = FeatureStores(FeatureCodec(FeatureDtype(precision_on(device).name)), stores_folder(place, folder))
            figures[place] = measure_store(stores, net, batches, device)
    return figures


def stores_folder(place: str, folder: str) -> Path | None:
    """Where stores lie; None for memory."""
    return Path(folder) / "cache" if place == "disk" else None


def measure_store(stores: FeatureStores, net: BlockNet, batches: int, device: torch.device) -> dict[str, Any]:
    """Figures of one kind of store."""
    data, plan = images_on(device, batches * BATCH, augment=False), BatchPlan(BATCH, seed=0)
    source = Cached(Recompute(data, plan, precision_on(device)), stores, views=1, stop=StopRequest())
    advance = seconds_of(lambda: source.advance([net.blocks[0]]), device) / (2 * batches)  # of train and test
    ready = [batch.inputs for batch in source.evaluate("test")]
    size = ready[0].nbytes
    write = write_seconds(stores, net, ready, device) / batches
    train = stepper(trainer_of(block_segment(net, 2), device), source)
    read, step = take_turns([reader(source), train], rounds=3, steps=2, device=device)
    source.close()
    return {
        "write_gb_s": size / write / 1e9,
        "read_gb_s": size / read / 1e9,
        "advance_gb_s": size / advance / 1e9,
        "write_of_step": write / step,
        "read_of_step": read / step,
        "advance_of_step": advance / step,
    }


def write_seconds(stores: FeatureStores, net: BlockNet, ready: list[Tensor], device: torch.device) -> float:
    """Time to write batches of x_1 that are there already, as the store of another depth."""
    store = stores.create(list(net.blocks))
    synchronise(device)
    started = time.perf_counter()
    with store.writer("test", 0, sum(map(len, ready))) as writer:
        for features in ready:
            writer.append(features)
    store.commit()
    seconds = time.perf_counter() - started
    store.delete()
    return seconds
