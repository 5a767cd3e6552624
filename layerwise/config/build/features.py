"""From the configuration to the features that a stage trains on: what is cached, where and in which format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from layerwise.config.build.data import build_batch_plan, sample_counts, shards
from layerwise.config.groups.data import CacheKind
from layerwise.config.resolved import ResolvedConfig
from layerwise.core import distributed
from layerwise.core.interrupt import StopRequest
from layerwise.core.machine import HOST
from layerwise.core.precision import Precision
from layerwise.data.dataset import Dataset, DatasetSpec
from layerwise.features.cache_plan import CacheDecision, decide_cache
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.sources import Cached, Recompute, Source
from layerwise.features.store import FeatureStores
from layerwise.models.costs import BlockCost
from layerwise.training.plan import Stage


def codec(config: ResolvedConfig, precision: Precision) -> FeatureCodec:
    """`cache.dtype`, by default the format that the features are computed in: no loss, and no bytes wasted."""
    return FeatureCodec(config.cache.dtype or FeatureDtype(precision.name))


def cached_epochs(stages: Sequence[Stage]) -> int:
    """Epochs of the longest stage that reads a cache; of those that start at the images nothing is stored."""
    return max((stage.epochs for stage in stages if stage.start > 0), default=1)


def cached_views(config: ResolvedConfig, spec: DatasetSpec, stages: Sequence[Stage]) -> int:
    """Views of each training sample that a cache stores: `cache.views`, but not more than differ."""
    differing = cached_epochs(stages) if config.dataset.augments and spec.augmented else 1
    return differing if config.cache.views == "epochs" else min(config.cache.views, differing)


def build_cache_decision(
    config: ResolvedConfig,
    spec: DatasetSpec,
    stages: Sequence[Stage],
    costs: Sequence[BlockCost],
    precision: Precision,
    folder: Path,
    device: torch.device,
) -> CacheDecision:
    """What to cache, decided from sizes alone.

    Raises:
        LayerwiseError: the cache that was asked for does not fit.
    """
    samples, held_out = sample_counts(config, spec)
    here, parts = distributed.place(), shards(config)
    in_run_folder = config.cache.kind is CacheKind.disk and config.cache.dir is None  # which all machines share
    budget = config.cache.budget_gb
    return decide_cache(
        config.cache.kind.value,
        shapes=[costs[start - 1].output_shape for start in sorted({stage.start for stage in stages} - {0})],
        images=parts["train"].most(samples),
        held_out=parts["test"].most(held_out),
        views=None if config.cache.views == "epochs" else config.cache.views,
        epochs=cached_epochs(stages),
        augmented=config.dataset.augments and spec.augmented,
        fresh_views=config.dataset.fresh_views,
        codec=codec(config, precision),
        computed=precision.dtype,
        budget_bytes=None if budget is None else int(budget * 1e9),
        folder=folder,
        returned=config.model.kind not in ("timm", "own"),
        sharing=here.ranks if in_run_folder else here.local_ranks,
        device=device,
    )


def build_source(
    config: ResolvedConfig,
    data: Dataset,
    precision: Precision,
    decision: CacheDecision,
    folder: Path,
    prefix: Sequence[nn.Module],
    stop: StopRequest,
) -> Source:
    """Where the features of the next stage come from, behind some frozen blocks."""
    plan = build_batch_plan(config, data)
    if decision.kind == "none":
        return Recompute(data, plan, precision, prefix)
    memory = data.device if decision.place == "device" else HOST
    stores = FeatureStores(decision.codec, folder if decision.kind == "disk" else None, config.cache.keep, memory)
    return Cached(Recompute(data, plan, precision), stores, decision.views, stop, prefix)
