"""From a data set's reader to the samples of a run: held out, limited, scaled, and in a random order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from layerwise.core.errors import LayerwiseError
from layerwise.data import fingerprint
from layerwise.data.augmentation import augmentation_of, mixing_of
from layerwise.data.choices import ValidationSplit
from layerwise.data.dataset import (
    WHOLE,
    Dataset,
    DatasetSpec,
    Resident,
    Shards,
    Split,
    SplitName,
    merged_by_float32,
    scaled_exactly,
)
from layerwise.data.reader import InMemory, Reader
from layerwise.data.split import (
    check_classes,
    class_weights,
    dealing_order,
    fold_out,
    fraction_of,
    hold_out,
    limit,
    limit_both,
)
from layerwise.data.table_columns import features_of


def load(
    reader: Reader,
    device: torch.device,
    *,
    spec: DatasetSpec | None = None,
    validation: float = 0.0,
    validation_split: ValidationSplit = ValidationSplit.random,
    folds: int | None = None,
    fold: int = 1,
    limit_train: int | None = None,
    limit_test: int | None = None,
    labelled: float = 1.0,
    weights: str | Sequence[float] | None = None,
    standardise: bool = True,
    augment: bool = True,
    seed: int = 0,
    shards: Shards = WHOLE,
    compiled_for: int | None = None,
    batch_size: int = 1,
) -> Dataset:
    """Reads a data set and puts it on the device where it fits.

    Args:
        spec: the reader's, perhaps `augmentation.augmented`; by default the reader's.
        validation: fraction of the training samples that is held out.
        validation_split: a stratified random part of them, or the last ones.
        folds: instead, cut the training samples in so many parts and hold one of them out.
        fold: which one, 1 … folds.
        limit_train: number of training samples, the first of a seeded, class-balanced order.
        limit_test: likewise of the test samples.
        labelled: fraction of the training samples whose labels may be used, stratified; of a limited number of
            samples those that were labelled among all.
        weights: of the classes in the training loss; see `split.class_weights`.
        standardise: scale to mean 0 and deviation 1; else pixels are in [0, 1] and vectors as they are.
        augment: crop, flip and cut training images as `spec` says.
        compiled_for: see `Dataset`.
        batch_size: of all processes, by which partners for mixup and cutmix are found.

    Returns:
        The data set; its `spec` has the statistics that were used. Training samples are in a random order, those
        with a label first, of which the shards of any number of processes take turns.

    Raises:
        LayerwiseError: see the data sets' modules and `split`.
    """
    spec = spec or reader.spec()
    train, test_split = reader.read(device, seed if augment else None)
    splits: dict[SplitName, Split] = {"train": train, "test": test_split}
    lines = _lines(splits) if isinstance(reader, InMemory) else ""
    spec = replace(spec, digest=spec.digest or (fingerprint.digest(lines) if lines else ""))
    if validation or folds is not None:
        labels = train.labels
        last = validation_split is ValidationSplit.last
        kept, held = hold_out(labels, validation, seed, last) if folds is None else fold_out(labels, folds, fold)
        if last and not labels.is_floating_point() and len(labels[kept].unique()) < len(labels.unique()):
            raise LayerwiseError(
                f"dataset.validation_split=last: the last {len(held)} samples hold all that there are of some class. "
                "Samples that are sorted by class need dataset.validation_split=random."
            )
        splits |= {"train": train.take(kept), "validation": train.take(held)}
    labels = splits["train"].labels
    some = fraction_of(labels, labelled, seed, "dataset.labelled") if labelled < 1 else None
    if limit_train is not None:
        chosen, some = limit_both(splits["train"].labels, some, limit_train, seed, "dataset.limit")
        splits["train"] = splits["train"].take(chosen)
        if some is not None:
            check_classes(splits["train"].labels, some, f"dataset.labelled={labelled}")
    splits["train"] = splits["train"].take(dealing_order(len(splits["train"]), some, seed))
    if limit_test is not None:
        splits["test"] = test_split.take(limit(test_split.labels, limit_test, seed, "dataset.limit_test"))
    spec = _with_statistics(spec, splits["train"], standardise)
    _scale_vectors(splits, spec)
    count = None if some is None else len(some)
    if spec.target:
        spec = _scale_targets(splits, spec, count)
    steps = augmentation_of(spec, device) if augment else None
    mixing = mixing_of(spec, batch_size, seed, shards["train"]) if augment else None
    varied = augment and spec.augmented
    data = Dataset(spec, splits, steps, seed, device, count, varied, shards, compiled_for, mixing)
    data.listing = lines
    data.class_weights = class_weights(data.labels["train"][:count], len(spec.classes), weights)
    return data


def _lines(splits: dict[SplitName, Split]) -> str:
    """The lines of `fingerprint` of samples in memory."""
    held = {name: split for name, split in splits.items() if isinstance(split, Resident)}
    return "\n".join(fingerprint.of_samples({name: (s.values.cpu(), s.labels.cpu()) for name, s in held.items()}))


def _with_statistics(spec: DatasetSpec, train: Split, standardise: bool) -> DatasetSpec:
    """The spec with the mean and deviation that samples are scaled by."""
    channels = spec.shape[0]
    if not spec.has_images:
        assert isinstance(train, Resident)
        values = train.values.double()  # [N, F]
        if spec.columns is not None and not spec.fill:
            fill = values.nanmedian(dim=0).values
            if empty := [name for name, absent in zip(features_of(spec.columns), fill.isnan(), strict=True) if absent]:
                raise LayerwiseError(
                    f"{spec.title}, column '{empty[0]}': no sample that is left to train on has a value. Leave it out: "
                    f"dataset.drop=[{','.join(empty)}]."
                )
            values = torch.where(values.isnan(), fill, values)
            spec = replace(spec, fill=tuple(fill.tolist()))
        if standardise and not spec.mean:
            deviation, mean = torch.std_mean(values, dim=0, correction=0)
            deviation[deviation <= 1e-14 * values.abs().amax(dim=0)] = 1  # a constant feature becomes 0
            return replace(spec, mean=tuple(mean.tolist()), std=tuple(deviation.tolist()))
    return spec if standardise else replace(spec, mean=(0.0,) * channels, std=(1.0,) * channels)


def _scale_vectors(splits: dict[SplitName, Split], spec: DatasetSpec) -> None:
    """Fills and scales vectors once and for all; images stay uint8 and are scaled batch by batch.

    Raises:
        LayerwiseError: values that float32 cannot hold.
    """
    for split in splits.values() if not spec.has_images else ():
        assert isinstance(split, Resident)
        exact = scaled_exactly(split.values, spec)
        split.values = exact.float()
        if not split.values.isfinite().all():
            problem = "are too large for float32"
        elif merged_by_float32(exact).any():
            problem = "are so large beside their differences that float32 would merge them"
        else:
            continue
        raise LayerwiseError(f"dataset={spec.name}: some values {problem}. Scale them with dataset.standardise=true.")


def _scale_targets(splits: dict[SplitName, Split], spec: DatasetSpec, labelled: int | None) -> DatasetSpec:
    """Scales real-valued targets to mean 0 and deviation 1 over the labelled training samples.

    Returns:
        The spec with both.

    Raises:
        LayerwiseError: these samples have one target.
    """
    deviation, mean = torch.std_mean(splits["train"].labels[:labelled], correction=0)
    if not 0 < float(deviation) < math.inf:
        raise LayerwiseError(
            f"dataset={spec.name}: the column '{spec.target}' has deviation {float(deviation):g} over the training "
            "samples; a target must vary, within what a float64 can hold. Choose another column: dataset.label."
        )
    for split in splits.values():
        split.labels = ((split.labels - mean) / deviation).float()
    return replace(spec, target_scale=(float(mean), float(deviation)))
