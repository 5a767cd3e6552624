"""How good a trained network is on other data than its run's: at each depth, and the ensembles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerwise.config.build import build_batch_plan, build_data, build_scoring, build_spec, data_listing, reader_of
from layerwise.config.datasets.files import ImageFilesConfig
from layerwise.config.datasets.table import TableConfig
from layerwise.config.resolved import ResolvedConfig
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.core.precision import choose_precision
from layerwise.data.dataset import Dataset, DatasetSpec, SplitName
from layerwise.data.reader import Reader
from layerwise.data.table import Table
from layerwise.models.ensemble import ensemble
from layerwise.runs.data_check import check_data
from layerwise.runs.depth_search import run_config
from layerwise.runs.loading import TrainedNet, load

SPLITS: dict[str, tuple[SplitName, ...]] = {
    "test": ("test",),
    "validation": ("validation",),
    "train": ("train",),
    "all": ("train", "validation", "test"),
}
"""The parts of a data set by the values of `--split`."""


def evaluate(
    folder: Path, given: Config | None, split: str = "test", device: torch.device | str = "cpu", trust: bool = False
) -> dict[str, Any]:
    """Scores the network of a run. The samples are prepared as in the run: its scaling, and no augmentation.

    Args:
        folder: of the run.
        given: a configuration with the data set; None takes the run's own, as it was.
        split: a name of `SPLITS`.
        trust: as for `load`.

    Returns:
        `run`, `dataset`, `split`, `samples`, `blocks` (`block`, `scores` with loss and measures, and `ensemble` of the
        heads up to there), and `notes` in words. A loss of another package is there only with `trust`.

    Raises:
        LayerwiseError: the data cannot be read, or have another shape, columns, number of classes or kind of target
            than those of the run; or there is no such split.
    """
    device = torch.device(device)
    network, config = load(folder, device, trust), run_config(folder, trust)
    own = given is None
    if given is not None:
        outside = {place: function for place, function in config.outside.items() if place != "dataset"}
        chosen = {"dataset": given.outside["dataset"]} if "dataset" in given.outside else {}
        config = replace(config, dataset=given.dataset, outside=outside | chosen)
    spec = build_spec(config) if own else reader_for(config, network.spec).spec()
    if own:
        check_data(folder, spec, lambda: data_listing(config))
    else:
        check_fits(spec, network.spec, isinstance(config.dataset, ImageFilesConfig))
    data = read(config, spec, network.spec, device)
    chosen_splits = [part for part in SPLITS[split] if part in data.splits]
    if not chosen_splits:
        raise LayerwiseError(f"--split {split}: no samples are held out. Add dataset.validation=0.1.")
    labels, notes = labels_of(data, chosen_splits, spec, network.spec)
    z, blocks = scores_of(network, config, data, chosen_splits), list[dict[str, Any]]()
    loss = config.function("objective")
    known = loss is None or loss.trusted
    if loss is not None and not known:
        notes.append(f"the loss is left out: it is of another package ({loss.key}), which only --trust imports")
    scoring = build_scoring(config, network.spec, device if known else None)
    for depth in network.depths:
        together = ensemble({d: z[d] for d in network.depths if d <= depth}, network.ensemble_on)
        scores = {"loss": scoring.loss(z[depth], labels)} if known else {}
        scores |= scoring.measures(z[depth], labels)
        blocks.append({"block": depth, "scores": scores, "ensemble": scoring.measures(together, labels)})
    return {
        "run": folder.resolve().name,
        "dataset": spec.title or spec.name,
        "split": split,
        "samples": len(labels),
        "blocks": blocks,
        "notes": notes,
    }


def reader_for(config: ResolvedConfig, trained: DatasetSpec) -> Reader:
    """What reads other data for a network: of a table, the columns of the run by their names, as `predict` does."""
    if isinstance(config.dataset, TableConfig) and trained.columns is not None:
        return Table(config.dataset.files, trained.columns)
    return reader_of(config)


def check_fits(spec: DatasetSpec, trained: DatasetSpec, resized: bool) -> None:
    """Refuses data that a network cannot be scored on.

    Args:
        resized: whether dataset.size decides their shape.

    Raises:
        LayerwiseError: names the difference.
    """
    name = f"dataset={spec.name}"
    if spec.shape != trained.shape:
        remedy = f" Try dataset.size={trained.shape[-1]}." if resized else ""
        here, there = ("×".join(map(str, shape)) for shape in (spec.shape, trained.shape))
        raise LayerwiseError(f"{name}: samples of shape {here}; the run was trained on {there}.{remedy}")
    if bool(spec.target) != bool(trained.target):
        kinds = ["a quantity" if one.target else "classes" for one in (spec, trained)]
        raise LayerwiseError(f"{name}: the target is {kinds[0]}; the run was trained on {kinds[1]} (dataset.task).")
    if len(spec.classes) != len(trained.classes):
        raise LayerwiseError(
            f"{name}: {len(spec.classes)} classes; the run was trained on {len(trained.classes)}. "
            "Choose data with the same classes."
        )
    own, known = ({c: kinds or "numbers" for c, kinds in (one.columns or {}).items()} for one in (spec, trained))
    if list(own.items()) != list(known.items()):
        column = next((c for c in (*known, *own) if known.get(c) != own.get(c)), "their order")
        raise LayerwiseError(
            f"{name}: the columns differ from those of the run, first at '{column}' "
            f"({own.get(column, 'absent')} here, {known.get(column, 'absent')} there)."
        )


def read(config: ResolvedConfig, spec: DatasetSpec, trained: DatasetSpec, device: torch.device) -> Dataset:
    """Returns the samples, scaled as those of the run, without augmentation."""
    dataset = replace(config.dataset.plain(), standardise=True)  # `trained` says how they were scaled
    plain = replace(config, dataset=dataset)
    scaled = replace(spec, mean=trained.mean, std=trained.std, fill=trained.fill)
    return build_data(plain, scaled, device, reader_for(plain, trained))


def labels_of(
    data: Dataset, splits: list[SplitName], spec: DatasetSpec, trained: DatasetSpec
) -> tuple[Tensor, list[str]]:
    """Returns the labels as the network knows them, and notes: classes of the same names may have other numbers."""
    labels = torch.cat([data.labels[split] for split in splits])
    if spec.target:
        (mean, deviation), (own_mean, own_deviation) = data.spec.target_scale, trained.target_scale
        return ((labels.double() * deviation + mean - own_mean) / own_deviation).float(), []
    if spec.classes == trained.classes:
        return labels, []
    if set(spec.classes) == set(trained.classes):
        numbers = [trained.classes.index(name) for name in spec.classes]
        return torch.tensor(numbers, device=labels.device)[labels], ["classes are matched by their names"]
    strange = sorted(set(spec.classes) - set(trained.classes))
    if len(strange) < len(spec.classes):
        raise LayerwiseError(
            f"dataset={spec.name}: the run knows some of these classes, and not '{strange[0]}'. Leave its samples out, "
            f"or name the classes as in the run: {', '.join(trained.classes)}."
        )
    i = next(i for i, (a, b) in enumerate(zip(spec.classes, trained.classes, strict=True)) if a != b)
    return labels, [
        f"classes have other names than in the run and are matched by their order: '{spec.classes[i]}' is taken for "
        f"'{trained.classes[i]}'"
    ]


@torch.no_grad()
def scores_of(network: TrainedNet, config: ResolvedConfig, data: Dataset, splits: list[SplitName]) -> dict[int, Tensor]:
    """Returns the outputs [N, c] at each depth for all samples of some splits."""
    precision, size = choose_precision(config.precision, data.device), build_batch_plan(config, data).pass_size
    rows: dict[int, list[Tensor]] = {depth: [] for depth in network.depths}
    for split in splits:
        for batch in data.batches(split, torch.arange(len(data.splits[split]), device=data.device), size):
            with precision.autocast():
                scores = network.class_scores(batch.inputs, network.depths)
            for depth, z in scores.items():
                rows[depth].append(z.float())
    return {depth: torch.cat(parts) for depth, parts in rows.items()}
