"""From the configuration to the objects of a run: data set, network, stages, optimiser, source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from layerwise import networks
from layerwise.cache_plan import CacheDecision, decide_cache
from layerwise.compression import pruned_copy
from layerwise.data import NAMES, DatasetSpec, ImageData, describe, load
from layerwise.environment import usable_cores
from layerwise.errors import LayerwiseError, suggest
from layerwise.feature_codec import FeatureCodec, FeatureDtype
from layerwise.feature_store import FeatureStores
from layerwise.heads import HeadKind
from layerwise.interrupt import StopRequest
from layerwise.models.blocknet import BlockNet
from layerwise.models.simcnn import check_resolution
from layerwise.objectives import LocalLoss
from layerwise.optim import Constant, Cosine, OneCycle, Schedule, StepDecay, adam, sgd
from layerwise.plan import Stage, check_warm_start, compressed, greedy, joint, simultaneous
from layerwise.precision import Precision
from layerwise.schema import Config, ModelKind, Plan, ScheduleName, Unreadable, filled
from layerwise.sources import BatchPlan, Cached, Recompute, Source
from layerwise.summary import BlockCost, block_costs
from layerwise.trainer import Recipe

OPTIMIZERS = ("sgd", "adam")


def build_spec(config: Config) -> DatasetSpec:
    """What is known of the data set without reading it; refuses what does not fit it.

    Raises:
        LayerwiseError: an unknown data set or optimiser, or a network that does not fit the images.
    """
    for key, name, known in (
        ("dataset.name", config.dataset.name, NAMES),
        ("optimizer.name", config.optimizer.name, OPTIMIZERS),
    ):
        if name not in known:
            raise LayerwiseError(f"{key}={name}: unknown.{suggest(name, known)}")
    spec = describe(config.dataset.name, Path(config.dataset.root), config.dataset.size)
    if config.model.kind is ModelKind.simcnn:
        J, downsample = filled(config.J), filled(config.model.downsample)
        check_resolution(spec.shape, J, downsample, filled(config.model.input_downsample))
        if config.plan.warm_start:
            check_warm_start(J, downsample)
    return spec


def build_stages(config: Config) -> list[Stage]:
    """The plan's stages."""
    J, epochs, plan = filled(config.J), filled(config.plan.epochs), config.plan
    if plan.name is Plan.joint:
        return joint(J, epochs)
    if plan.name is Plan.simultaneous:
        return simultaneous(J, epochs, blocks_per_stage=plan.blocks_per_stage)
    if plan.prune_to is not None:
        return compressed(J, epochs, prune_to=pruned_widths(config), prune_epochs=plan.prune_epochs)
    return greedy(J, epochs, blocks_per_stage=plan.blocks_per_stage, warm_start=plan.warm_start)


def pruned_widths(config: Config) -> list[int]:
    """Filters that block j keeps, at position j−1: `plan.prune_to`, doubled at each downsampled block like M."""
    downsample = filled(config.model.downsample)
    return [filled(config.plan.prune_to) * 2 ** sum(d <= j for d in downsample) for j in range(1, filled(config.J) + 1)]


def build_network(config: Config, spec: DatasetSpec, stages: Sequence[Stage]) -> BlockNet:
    """The network at its initialisation, on the CPU, with a head at each depth that a stage reads."""
    return networks.build_network(config, spec, {depth for stage in stages for depth in stage.depths})


def build_costs(config: Config, network: BlockNet, spec: DatasetSpec, dtype: torch.dtype) -> list[BlockCost]:
    """What the network costs in the end (pruned, if it will be)."""
    final = network if config.plan.prune_to is None else pruned_copy(network, pruned_widths(config))
    return block_costs(final, spec.shape, dtype)


def build_data(config: Config, spec: DatasetSpec, device: torch.device) -> ImageData:
    """The images, on the device where they fit.

    Raises:
        LayerwiseError: see `layerwise.data`; or the batch is larger than the training set.
    """
    dataset = config.dataset
    data = load(
        spec,
        Path(dataset.root),
        device,
        validation=dataset.validation,
        limit_train=dataset.limit,
        limit_test=dataset.limit_test,
        augment=dataset.augment,
        seed=config.seed,
        workers=usable_cores() if dataset.workers is None else dataset.workers,
        skip_unreadable=dataset.unreadable is Unreadable.skip,
    )
    images, batch_size = len(data.splits["train"]), filled(config.batch_size)
    if batch_size > images:
        raise LayerwiseError(
            f"batch_size={batch_size}: there are only {images} training images. "
            f"Use batch_size={images} or less, or more data (dataset.limit)."
        )
    model = config.model
    norms_one_position = model.kind is not ModelKind.simcnn or (model.head is HeadKind.mlp_sr and model.batch_norm)
    if norms_one_position and (images - 1) % batch_size == 0:
        raise LayerwiseError(
            f"batch_size={batch_size}: leaves a last batch of one of the {images} images, which batch norms "
            f"of this network may not take. Use another batch_size, or dataset.limit={images - 1}."
        )
    return data


def image_counts(config: Config, spec: DatasetSpec) -> tuple[int, int]:
    """Numbers of training images and of held-out ones (validation and test), without reading them."""
    dataset = config.dataset
    validation = round(dataset.validation * spec.train_images)
    test = min(dataset.limit_test or spec.test_images, spec.test_images)
    return min(dataset.limit or spec.train_images, spec.train_images - validation), validation + test


def codec(config: Config, precision: Precision) -> FeatureCodec:
    """`cache.dtype`, by default the format that the features are computed in: no loss, and no bytes wasted."""
    return FeatureCodec(config.cache.dtype or FeatureDtype(precision.name))


def build_cache_decision(
    config: Config,
    spec: DatasetSpec,
    stages: Sequence[Stage],
    costs: Sequence[BlockCost],
    precision: Precision,
    folder: Path,
) -> CacheDecision:
    """What to cache, decided from sizes alone.

    Raises:
        LayerwiseError: the cache that was asked for does not fit.
    """
    images, held_out = image_counts(config, spec)
    budget = config.cache.budget_gb
    return decide_cache(
        config.cache.kind.value,
        shapes=[costs[start - 1].output_shape for start in sorted({stage.start for stage in stages} - {0})],
        images=images,
        held_out=held_out,
        views=None if config.cache.views == "epochs" else config.cache.views,
        epochs=max(stage.epochs for stage in stages),
        augmented=config.dataset.augment and spec.augmented,
        codec=codec(config, precision),
        computed=precision.dtype,
        budget_bytes=None if budget is None else int(budget * 1e9),
        folder=folder,
    )


def build_source(
    config: Config,
    data: ImageData,
    precision: Precision,
    decision: CacheDecision,
    folder: Path,
    prefix: Sequence[nn.Module],
    stop: StopRequest,
) -> Source:
    """Where the features of the next stage come from, behind some frozen blocks."""
    plan = BatchPlan(filled(config.batch_size), config.seed)
    if decision.kind == "none":
        return Recompute(data, plan, precision, prefix)
    stores = FeatureStores(decision.codec, folder if decision.kind == "disk" else None, config.cache.keep)
    return Cached(Recompute(data, plan, precision), stores, decision.views, stop, prefix)


def build_schedule(config: Config) -> Schedule:
    """`optimizer.schedule`."""
    optimizer = config.optimizer
    schedules: dict[ScheduleName, Schedule] = {
        ScheduleName.step: StepDecay(filled(optimizer.decay_every), filled(optimizer.decay)),
        ScheduleName.cosine: Cosine(),
        ScheduleName.onecycle: OneCycle(),
        ScheduleName.constant: Constant(),
    }
    return schedules[optimizer.schedule]


def build_optimizer(config: Config, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over a stage's parameters."""
    optimizer = config.optimizer
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if optimizer.name == "adam":
        return adam(trained, lr=filled(optimizer.lr), weight_decay=filled(optimizer.weight_decay))
    return sgd(
        trained,
        lr=filled(optimizer.lr),
        momentum=filled(optimizer.momentum),
        weight_decay=filled(optimizer.weight_decay),
        nesterov=optimizer.nesterov,
    )


def build_objective(config: Config) -> LocalLoss:
    """What each head minimises."""
    return LocalLoss(config.objective.label_smoothing, config.objective.similarity)


def build_recipe(config: Config, stage: Stage, images: int) -> Recipe:
    """How a stage is optimised."""
    return Recipe(
        epochs=stage.epochs,
        steps_per_epoch=-(-images // filled(config.batch_size)),
        lr=filled(config.optimizer.lr),
        schedule=build_schedule(config),
        restart_momentum=config.optimizer.restart_momentum,
        clip_norm=config.optimizer.clip_norm,
        seed=config.seed,
    )
