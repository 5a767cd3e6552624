"""From the configuration to the data of a run, and what it asks of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from layerwise.config.datasets.images import ImagesConfig
from layerwise.config.groups.training import Parallel
from layerwise.config.resolved import ResolvedConfig
from layerwise.core import distributed
from layerwise.core.distributed import ranks
from layerwise.core.errors import LayerwiseError
from layerwise.core.shard import EVERYTHING, Shard
from layerwise.data.augmentation import check_mirrors
from layerwise.data.dataset import Dataset, DatasetSpec, Shards
from layerwise.data.factory import load
from layerwise.data.reader import Reader
from layerwise.features.batches import BatchPlan
from layerwise.training.choices import LOSSES, losses_for
from layerwise.training.plan import Stage
from layerwise.training.recipe import parts_of_batch


def reader_of(config: ResolvedConfig) -> Reader:
    """What reads the data set."""
    return config.dataset.reader(config.function("dataset"))


def describe_data(config: ResolvedConfig) -> DatasetSpec:
    """What is known of the data set without reading it."""
    return reader_of(config).spec()


def build_spec(config: ResolvedConfig) -> DatasetSpec:
    """What is known of the data set, with its augmentation; refuses what does not fit it.

    Raises:
        LayerwiseError: an unknown data set, or a network that does not fit its samples.
    """
    spec, dataset = describe_data(config), config.dataset
    if config.objective.single_logit and len(spec.classes) != 2:
        raise LayerwiseError(
            f"objective.single_logit=true is for two classes; {spec.name} has {len(spec.classes)}. Leave it out."
        )
    if config.evaluation.mirror:
        check_mirrors(spec, "evaluation.mirror=true")
    spec = dataset.augmented(spec)
    config.model.check_samples(spec, config.J)
    return spec


def data_listing(config: ResolvedConfig) -> str:
    """A line for each image file or sample; see `Reader.listing`."""
    return reader_of(config).listing()


def shards(config: ResolvedConfig) -> Shards:
    """Which part of each split this process keeps; of parallel blocks all see all training samples."""
    own = Shard(distributed.rank(), distributed.ranks())
    train = EVERYTHING if config.distributed.parallel is Parallel.blocks else own
    return {"train": train, "validation": own, "test": own}


def build_data(
    config: ResolvedConfig, spec: DatasetSpec, device: torch.device, reader: Reader | None = None
) -> Dataset:
    """This process's samples, on the device where they fit; LayerwiseError: they cannot be read.

    Args:
        reader: by default the configuration's.
    """
    dataset, kept = config.dataset, shards(config)
    compiled = config.compile and device.type == "cuda"  # on a CPU it is a thousandth of a step
    return load(
        reader or reader_of(config),
        device,
        spec=spec,
        validation=dataset.validation,
        validation_split=dataset.validation_split,
        folds=dataset.folds,
        fold=dataset.fold,
        limit_train=dataset.limit,
        limit_test=dataset.limit_test,
        labelled=dataset.labelled,
        weights=dataset.class_weights,
        standardise=dataset.standardise,
        augment=dataset.augments,
        seed=config.seed,
        shards=kept,
        compiled_for=config.batch_size // kept["train"].ranks if compiled else None,
        batch_size=config.batch_size,
    )


def check_data_suffice(config: ResolvedConfig, data: Dataset, stages: Sequence[Stage]) -> None:
    """Refuses data that cannot be trained on as configured.

    Raises:
        LayerwiseError: a batch that is larger than the training set or that the processes cannot share, more processes
            than there is work for, or inputs outside [0, 1] that a binary cross-entropy is to reconstruct.
    """
    _check_processes(config, data, stages)
    targets = {stage.target for stage in stages}
    for target in targets:
        which = "labelled " if target == "labels" and config.dataset.labelled < 1 else ""
        _check_batches(config, data.having(target), which, data.shards["train"].ranks)
    loss = config.objective.reconstruction
    in_unit = LOSSES[loss].wanted == "unit"
    if "inputs" in targets and in_unit and not data.within_unit_interval():
        raise LayerwiseError(
            f"objective.reconstruction={loss} needs inputs in [0, 1], and this table has others. "
            f"Use {losses_for('values')}, or scale the table."
        )


def _check_processes(config: ResolvedConfig, data: Dataset, stages: Sequence[Stage]) -> None:
    """Refuses more processes than there is work for."""
    groups = len(stages[0].depths)
    if config.distributed.parallel is Parallel.blocks and ranks() > groups:
        raise LayerwiseError(
            f"distributed.parallel=blocks: {ranks()} processes were started for {groups} group(s) of blocks. "
            f"Start {groups} or fewer."
        )
    few, split = min((len(data.labels[split]), split) for split in data.splits if split != "train")
    if few < ranks():
        raise LayerwiseError(f"{ranks()} processes are more than the {few} {split} samples. Start {few} or fewer.")


def _check_batches(config: ResolvedConfig, samples: int, which: str, processes: int) -> None:
    """Refuses a batch size that the samples or the processes cannot be divided by.

    Args:
        processes: that share a batch.
    """
    batch_size = config.batch_size
    if batch_size % processes:
        below, above = batch_size // processes * processes, -(-batch_size // processes) * processes
        nearest = f"{below} or {above}" if below else str(above)
        raise LayerwiseError(
            f"batch_size={batch_size} cannot be shared evenly by {processes} processes. Use batch_size={nearest}."
        )
    accumulate = config.accumulate
    if batch_size % (unit := processes * accumulate):
        each = "" if processes == 1 else f" in each of {processes} processes"
        below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
        nearest = f"{below} or {above}" if below else str(above)
        raise LayerwiseError(
            f"accumulate={accumulate}: batch_size={batch_size} cannot be divided into {accumulate} equal parts{each}. "
            f"Use batch_size={nearest}, or another accumulate."
        )
    if batch_size > samples:
        raise LayerwiseError(
            f"batch_size={batch_size}: there are only {samples} {which}training samples. "
            f"Use batch_size={samples} or less, or more data (dataset.limit, dataset.labelled)."
        )
    mixes = isinstance(config.dataset, ImagesConfig) and (config.dataset.mixup or config.dataset.cutmix)
    if mixes and samples < 2 * batch_size:
        raise LayerwiseError(
            f"batch_size={batch_size} of {samples} training samples: dataset.mixup and dataset.cutmix need two batches "
            f"or more, since an image is mixed with one of another batch. Use batch_size={samples // 2} or less."
        )
    last = samples % batch_size or batch_size
    if last < processes:
        raise LayerwiseError(
            f"batch_size={batch_size} leaves a last batch of {last} of the {samples} {which}samples, fewer than the "
            f"{processes} processes. Use another batch_size, dataset.limit={samples - last}, or fewer processes."
        )
    for images in (batch_size, last) if accumulate > 1 and config.model.norms_vectors else ():
        parts = parts_of_batch(images, batch_size // accumulate, processes)
        smallest = images // processes // parts * (processes if config.distributed.sync_batchnorm else 1)
        if smallest < 2 <= images:
            raise LayerwiseError(
                f"accumulate={accumulate} computes a batch of {images} samples in parts of {smallest}, but batch norm "
                "needs at least two. Use a smaller accumulate."
            )
    seen = last if config.distributed.sync_batchnorm else last // processes
    if config.model.norms_vectors and seen < 2:
        remedy = "Use another batch_size"
        if batch_size < 2 * processes:
            remedy = f"Use batch_size={2 * processes} or more."
        else:
            remedy += f", or dataset.limit={samples - last}." if last < samples else " of 2 or more for each process."
        raise LayerwiseError(
            f"batch_size={batch_size} leaves a last batch of {last} of the {samples} {which}samples, but batch norm "
            f"needs at least two samples per batch. {remedy}"
        )


def sample_counts(config: ResolvedConfig, spec: DatasetSpec) -> tuple[int, int]:
    """Numbers of training samples and of held-out ones (validation and test), without reading them."""
    dataset = config.dataset
    validation = round(dataset.validation * spec.train_samples)
    if dataset.folds is not None:
        validation = len(range(dataset.fold - 1, spec.train_samples, dataset.folds))  # as `split.fold_out` deals
    test = min(dataset.limit_test or spec.test_samples, spec.test_samples)
    return min(dataset.limit or spec.train_samples, spec.train_samples - validation), validation + test


def build_batch_plan(config: ResolvedConfig, data: Dataset) -> BatchPlan:
    """How epochs are cut into batches."""
    batches_a_pass = 4 if data.device.type == "cuda" else 1  # on a CPU larger ones would leave its caches
    return BatchPlan(
        config.batch_size,
        config.seed,
        data.shards["train"],
        batches_a_pass,
        fresh_views=config.dataset.fresh_views,
        accumulate=config.accumulate,
    )
