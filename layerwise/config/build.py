"""From the configuration to the objects of a run: data set, network, stages, optimiser, source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from layerwise.config import networks
from layerwise.config.schema import (
    CacheKind,
    Config,
    HeadStart,
    ModelKind,
    OptimizerKind,
    Parallel,
    Plan,
    ScheduleName,
    Unreadable,
    filled,
)
from layerwise.core import distributed
from layerwise.core.distributed import ranks
from layerwise.core.errors import LayerwiseError, suggest
from layerwise.core.interrupt import StopRequest
from layerwise.core.machine import HOST, decoding_workers
from layerwise.core.precision import Precision
from layerwise.core.shard import EVERYTHING, Shard
from layerwise.core.types import Target
from layerwise.data.dataset import Dataset, DatasetSpec, Shards
from layerwise.data.factory import NAMES, augmented, check_mirrors, describe, load
from layerwise.data.table import TableFiles
from layerwise.features.cache_plan import CacheDecision, decide_cache
from layerwise.features.codec import FeatureCodec, FeatureDtype
from layerwise.features.sources import BatchPlan, Cached, Recompute, Source
from layerwise.features.store import FeatureStores
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.models.costs import BlockCost, block_costs
from layerwise.models.heads import HeadKind
from layerwise.models.simcnn import check_resolution
from layerwise.training.block_parallel import BlockParallel, cuts
from layerwise.training.objectives import LocalLoss, LossName, Objective, Penalised, Reconstruction
from layerwise.training.optim import (
    Constant,
    Cosine,
    OneCycle,
    Schedule,
    StepDecay,
    adam,
    adamw,
    can_be_captured,
    sgd,
    without_norm_decay,
)
from layerwise.training.plan import (
    Agenda,
    FineTuning,
    Stage,
    autoencoder,
    check_warm_start,
    compressed,
    greedy,
    joint,
    simultaneous,
)
from layerwise.training.pruning import pruned_copy
from layerwise.training.recipe import Recipe
from layerwise.training.step import CudaGraph, DeviceGraph
from layerwise.training.team import ALONE, DataParallel, Team
from layerwise.training.timm_optim import timm_optimizer


def table_files(config: Config) -> TableFiles | None:
    """The files of `dataset=table`."""
    dataset = config.dataset
    if dataset.path is None:
        return None
    test_path = None if dataset.test_path is None else Path(dataset.test_path)
    return TableFiles(Path(dataset.path), dataset.label, test_path, dataset.test)


def build_spec(config: Config) -> DatasetSpec:
    """What is known of the data set without reading it; refuses what does not fit it.

    Raises:
        LayerwiseError: an unknown data set, or a network that does not fit its samples.
    """
    dataset = config.dataset
    if dataset.name not in NAMES:
        raise LayerwiseError(f"dataset.name={dataset.name}: unknown.{suggest(dataset.name, NAMES)}")
    spec = describe(dataset.name, Path(dataset.root), dataset.size, table_files(config))
    if config.evaluation.mirror:
        check_mirrors(spec, "evaluation.mirror=true")
    spec = augmented(spec, dataset.flip, dataset.cutout)
    networks.check_samples(config.model, spec)
    if config.model.kind is ModelKind.simcnn:
        J, downsample = filled(config.J), filled(config.model.downsample)
        check_resolution(spec.shape, J, downsample, filled(config.model.input_downsample))
        if config.plan.warm_start:
            check_warm_start(J, downsample)
    return spec


def build_agenda(config: Config) -> Agenda:
    """The plan's stages, and how they depend on what the first of them give."""
    plan = config.plan
    finetuning = FineTuning(
        plan.finetune.epochs, plan.finetune.autoencoder_epochs, filled(plan.classifier_epochs), plan.finetune.lr
    )
    return Agenda(_build_growth(config), finetuning, plan.patience)


def _build_growth(config: Config) -> list[Stage]:
    J, epochs, plan = filled(config.J), filled(config.plan.epochs), config.plan
    carried = plan.head is HeadStart.carried
    if plan.name is Plan.joint:
        return joint(J, epochs)
    if plan.name is Plan.simultaneous:
        return simultaneous(J, epochs, blocks_per_stage=plan.blocks_per_stage)
    if plan.name is Plan.autoencoder:
        return autoencoder(J, epochs, classifier_epochs=filled(plan.classifier_epochs), carried=carried)
    if plan.prune_to is not None:
        return compressed(J, epochs, prune_to=pruned_widths(config), prune_epochs=plan.prune_epochs)
    return greedy(J, epochs, blocks_per_stage=plan.blocks_per_stage, carried=carried, warm_start=plan.warm_start)


def pruned_widths(config: Config) -> list[int]:
    """Filters that block j keeps, at position j−1: `plan.prune_to`, doubled at each downsampled block like M."""
    downsample = filled(config.model.downsample)
    return [filled(config.plan.prune_to) * 2 ** sum(d <= j for d in downsample) for j in range(1, filled(config.J) + 1)]


def build_network(config: Config, spec: DatasetSpec, stages: Sequence[Stage]) -> BlockNet:
    """The network at its initialisation, on the CPU, with a head or decoder at each depth where a stage needs one."""
    depths: dict[Target, set[int]] = {"labels": set(), "inputs": set()}
    for stage in stages:
        depths[stage.target] |= set(stage.depths)
    return networks.build_network(config, spec, depths["labels"], depths["inputs"])


def build_costs(config: Config, network: BlockNet, spec: DatasetSpec, dtype: torch.dtype) -> list[BlockCost]:
    """What the network costs in the end (pruned, if it will be)."""
    final = network if config.plan.prune_to is None else pruned_copy(network, pruned_widths(config))
    return block_costs(final, spec.shape, dtype)


def shards(config: Config) -> Shards:
    """Which part of each split this process keeps; of parallel blocks all see all training samples."""
    own = Shard(distributed.rank(), distributed.ranks())
    train = EVERYTHING if config.distributed.parallel is Parallel.blocks else own
    return {"train": train, "validation": own, "test": own}


def build_data(config: Config, spec: DatasetSpec, device: torch.device) -> Dataset:
    """This process's samples, on the device where they fit.

    Raises:
        LayerwiseError: see `layerwise.data`; or what it gives does not fit the training: a batch that is larger than
            the training set or that the processes cannot share, more processes than there is work for, inputs
            outside [0, 1] that a binary cross-entropy is to reconstruct.
    """
    dataset, kept, local_ranks = config.dataset, shards(config), distributed.place().local_ranks
    compiled = config.compile and device.type == "cuda"  # on a CPU it is a thousandth of a step
    data = load(
        spec,
        Path(dataset.root),
        device,
        files=table_files(config),
        validation=dataset.validation,
        folds=dataset.folds,
        fold=dataset.fold,
        limit_train=dataset.limit,
        limit_test=dataset.limit_test,
        labelled=dataset.labelled,
        standardise=dataset.standardise,
        augment=dataset.augment,
        seed=config.seed,
        workers=dataset.workers if dataset.workers is not None else decoding_workers(device, local_ranks),
        skip_unreadable=dataset.unreadable is Unreadable.skip,
        shards=kept,
        compiled_for=filled(config.batch_size) // kept["train"].ranks if compiled else None,
    )
    stages = build_agenda(config).stages()
    groups = len(stages[0].depths)
    if config.distributed.parallel is Parallel.blocks and ranks() > groups:
        raise LayerwiseError(
            f"distributed.parallel=blocks: {ranks()} processes were started for {groups} group(s) of blocks. "
            f"Start {groups} or fewer."
        )
    for target in {stage.target for stage in stages}:
        which = "labelled " if target == "labels" and dataset.labelled < 1 else ""
        _check_batches(config, data.having(target), which, data.shards["train"].ranks)
    if (few := min((len(data.labels[split]), split) for split in data.splits if split != "train"))[0] < ranks():
        raise LayerwiseError(f"{ranks()} processes are more than the {few[0]} {few[1]} samples. Start fewer.")
    reconstructs = config.plan.name is Plan.autoencoder
    in_unit = config.objective.reconstruction is LossName.binary_cross_entropy
    if reconstructs and in_unit and not data.within_unit_interval():
        raise LayerwiseError(
            "objective.reconstruction=binary_cross_entropy: needs inputs in [0, 1]; this table has others. "
            "Use squared_error or absolute_error, or scale the table."
        )
    return data


def _check_batches(config: Config, samples: int, which: str, processes: int) -> None:
    batch_size, model = filled(config.batch_size), config.model
    if batch_size % processes:
        below, above = batch_size // processes * processes, -(-batch_size // processes) * processes
        nearest = f"{below} or {above}" if below else str(above)
        raise LayerwiseError(
            f"batch_size={batch_size}: is that of all {processes} processes together, which cannot share it evenly. "
            f"Use batch_size={nearest}."
        )
    if batch_size > samples:
        raise LayerwiseError(
            f"batch_size={batch_size}: there are only {samples} {which}training samples. "
            f"Use batch_size={samples} or less, or more data (dataset.limit, dataset.labelled)."
        )
    last = samples % batch_size or batch_size
    if last < processes:
        raise LayerwiseError(
            f"batch_size={batch_size}: leaves a last batch of {last} of the {samples} {which}samples, fewer than the "
            f"{processes} processes. Use another batch_size, dataset.limit={samples - last}, or fewer processes."
        )
    norms_vectors = model.kind not in (ModelKind.simcnn, ModelKind.mlp)
    norms_vectors |= bool(model.batch_norm) and (model.kind is ModelKind.mlp or model.head is HeadKind.mlp_sr)
    seen = last if config.distributed.sync_batchnorm else last // processes
    if norms_vectors and seen < 2:
        raise LayerwiseError(
            f"batch_size={batch_size}: leaves a last batch of {last} of the {samples} {which}samples, so that a batch "
            f"norm sees a single one, which those of this network may not. Use another batch_size, or "
            f"dataset.limit={samples - last}."
        )


def sample_counts(config: Config, spec: DatasetSpec) -> tuple[int, int]:
    """Numbers of training samples and of held-out ones (validation and test), without reading them."""
    dataset = config.dataset
    validation = round(dataset.validation * spec.train_samples)
    if dataset.folds is not None:
        validation = len(range(dataset.fold - 1, spec.train_samples, dataset.folds))  # as `split.fold_out` deals
    test = min(dataset.limit_test or spec.test_samples, spec.test_samples)
    return min(dataset.limit or spec.train_samples, spec.train_samples - validation), validation + test


def codec(config: Config, precision: Precision) -> FeatureCodec:
    """`cache.dtype`, by default the format that the features are computed in: no loss, and no bytes wasted."""
    return FeatureCodec(config.cache.dtype or FeatureDtype(precision.name))


def cached_epochs(stages: Sequence[Stage]) -> int:
    """Epochs of the longest stage that reads a cache; of those that start at the images nothing is stored."""
    return max((stage.epochs for stage in stages if stage.start > 0), default=1)


def build_cache_decision(
    config: Config,
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
        augmented=config.dataset.augment and spec.augmented,
        codec=codec(config, precision),
        computed=precision.dtype,
        budget_bytes=None if budget is None else int(budget * 1e9),
        folder=folder,
        sharing=here.ranks if in_run_folder else here.local_ranks,
        device=device,
    )


def build_source(
    config: Config,
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


def build_batch_plan(config: Config, data: Dataset) -> BatchPlan:
    """How epochs are cut into batches."""
    batches_a_pass = 4 if data.device.type == "cuda" else 1  # on a CPU larger ones would leave its caches
    return BatchPlan(filled(config.batch_size), config.seed, data.shards["train"], batches_a_pass)


def build_team(config: Config, stage: Stage, network: BlockNet, data: Dataset, stop: StopRequest) -> Team:
    """How the processes share a stage.

    Args:
        stage: that they train.
        network: on its device.
        data: this process's samples.
        stop: is told how often the processes may be asked whether to stop.

    """
    if not distributed.joined():
        return ALONE
    if config.distributed.parallel is Parallel.data:
        return DataParallel()
    n = ranks()
    stop.least_steps = 4 * n  # they work on batches that lie up to n apart
    costs = [cost.block_macs + cost.head_macs for cost in block_costs(network, data.spec.shape, torch.float32)]
    parts = [
        Segment(network, start, stop_, [depth for depth in stage.depths if start < depth <= stop_], stage.detached)
        for start, stop_ in cuts(costs, stage.depths, n)
    ]
    return BlockParallel(parts, data, build_batch_plan(config, data))


def build_graph(
    config: Config, device: torch.device, precision: Precision, optimizer: torch.optim.Optimizer
) -> DeviceGraph | None:
    """Returns a CUDA graph for whole training steps: with `compile=true` on one GPU, if no step waits for it.

    The loss scaling of fp16 does ask it (whether gradients overflowed), as do some of timm's optimisers.
    """
    recorded = config.compile and device.type == "cuda" and not distributed.joined()
    return CudaGraph(device) if recorded and precision.dtype != torch.float16 and can_be_captured(optimizer) else None


def build_schedule(config: Config) -> Schedule:
    """`optimizer.schedule`."""
    optimizer = config.optimizer
    schedules: dict[ScheduleName, Schedule] = {
        ScheduleName.step: StepDecay(filled(optimizer.decay_every), filled(optimizer.decay)),
        ScheduleName.cosine: Cosine(),
        ScheduleName.onecycle: OneCycle(optimizer.warmup, optimizer.final),
        ScheduleName.constant: Constant(),
    }
    return schedules[optimizer.schedule]


def build_optimizer(config: Config, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over a stage's parameters."""
    optimizer = config.optimizer
    lr, momentum, weight_decay = filled(optimizer.lr), filled(optimizer.momentum), filled(optimizer.weight_decay)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    trained = parameters if optimizer.norm_decay else without_norm_decay(parameters)
    if optimizer.kind is OptimizerKind.timm:
        return timm_optimizer(filled(optimizer.name), trained, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if optimizer.kind is OptimizerKind.sgd:
        return sgd(trained, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=optimizer.nesterov)
    return (adam if optimizer.kind is OptimizerKind.adam else adamw)(trained, lr=lr, weight_decay=weight_decay)


def build_objective(config: Config, target: Target, module: nn.Module) -> Objective:
    """What a stage's heads minimise.

    Args:
        target: of the stage.
        module: whose weights the penalties are on: matrices and kernels, not biases and norms.
    """
    chosen = config.objective
    objective: Objective = LocalLoss(chosen.label_smoothing, chosen.similarity, chosen.loss)
    if target == "inputs":
        objective = Reconstruction(chosen.reconstruction)
    if chosen.l1 or chosen.l2:
        weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
        return Penalised(objective, weights, chosen.l1, chosen.l2)
    return objective


def build_recipe(config: Config, stage: Stage, data: Dataset) -> Recipe:
    """How a stage is optimised."""
    return Recipe(
        epochs=stage.epochs,
        samples=data.having(stage.target),
        batch_size=filled(config.batch_size),
        lr=filled(config.optimizer.lr) if stage.lr is None else stage.lr,
        schedule=build_schedule(config),
        restart_momentum=config.optimizer.restart_momentum,
        clip_norm=config.optimizer.clip_norm,
        seed=config.seed,
        average=config.optimizer.average,
    )
