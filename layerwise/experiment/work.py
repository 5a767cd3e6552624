"""From a configuration to the operations of its run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from layerwise.config.build.data import sample_counts
from layerwise.config.groups.training import Keep
from layerwise.config.resolved import ResolvedConfig
from layerwise.data.dataset import Dataset, DatasetSpec
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import BlockCost, block_costs, meta_copy
from layerwise.training.operations import Workload
from layerwise.training.pruning import prune_block, pruned_copy


def workload(
    config: ResolvedConfig,
    spec: DatasetSpec,
    network: BlockNet,
    costs: Sequence[BlockCost],
    views: int,
    data: Dataset | None = None,
) -> Workload:
    """What passes through the blocks of a run.

    Args:
        views: stored views of each training sample; 0 without a cache.
        data: the samples; None takes their numbers from `spec`, which rounds held-out fractions.
    """
    widths = config.plan.pruned_widths(config)
    if data is None:
        train, held_out = sample_counts(config, spec)
        validation = held_out - min(config.dataset.limit_test or spec.test_samples, spec.test_samples)
        labelled = round(config.dataset.labelled * train)
    else:
        train, labelled = data.having("inputs"), data.having("labels")
        validation = len(data.labels.get("validation", ()))
        held_out = sum(len(labels) for split, labels in data.labels.items() if split != "train")
    return Workload(
        costs=costs,
        unpruned=costs if widths is None else costs_before_pruning(widths, network, spec),
        tuned=costs_before_the_last_head(widths, network, spec) if widths and config.plan.last_head_width else None,
        samples={"labels": labelled, "inputs": train},
        stored=train,
        held_out=held_out,
        views=views,
        augmented=config.dataset.augments and spec.augmented,
        scores_train=config.evaluation.train,
        mirror=config.evaluation.mirror,
        every=config.evaluation.every,
        chosen_by=validation if config.checkpoint.keep is Keep.best else 0,
    )


def costs_before_pruning(widths: Sequence[int], network: BlockNet, spec: DatasetSpec) -> list[BlockCost]:
    """The costs of each block and its head while the block still has all its filters and those before it do not."""
    network, costs = meta_copy(network), []
    for depth, n in enumerate(widths, 1):
        costs.append(block_costs(network, spec.shape, torch.float32)[depth - 1])
        prune_block(network, depth, range(n))
    return costs


def costs_before_the_last_head(widths: Sequence[int], network: BlockNet, spec: DatasetSpec) -> list[BlockCost]:
    """The costs of the pruned blocks, the last one with its first head."""
    return block_costs(pruned_copy(meta_copy(network), widths), spec.shape, torch.float32)
