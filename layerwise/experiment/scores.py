"""The rows of results of a trained stage: scores of its heads on the held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from layerwise.config.build import build_objective, build_scoring
from layerwise.config.groups.training import Keep
from layerwise.core.distributed import from_main, gather_rows
from layerwise.core.machine import return_freed_memory
from layerwise.data.dataset import SplitName
from layerwise.experiment.context import Run
from layerwise.features.sources import Source
from layerwise.models.blocknet import Segment, count_parameters
from layerwise.models.ensemble import ensemble
from layerwise.runs.finished import FinishedStage, valid_depths
from layerwise.training.evaluate import mean_losses, predict
from layerwise.training.plan import Stage
from layerwise.training.reports import EpochReport
from layerwise.training.scoring import Scoring

HELD_OUT: tuple[SplitName, ...] = ("validation", "test")

ByDepth = dict[int, Tensor]
"""Class scores [N, c] by depth."""


def stage_rows(
    run: Run,
    stages: Sequence[Stage],
    segment: Segment,
    source: Source,
    report: EpochReport,
    earlier: Sequence[FinishedStage],
) -> tuple[list[dict[str, Any]], dict[str, ByDepth]]:
    """Returns a row for each depth that a trained stage reads, and its class scores of held-out samples. Collective.

    Args:
        stages: the finished stages and, last, the trained one.
        report: results of its last epoch.
    """
    if stages[-1].target == "inputs":
        return reconstruction_rows(run, stages[-1], segment, source, report), {}
    scores = class_scores(run, segment, source, evaluated_splits(run))
    rows = from_main(lambda: class_rows(run, stages, scores, report, earlier))
    return rows, {split: by_depth for split, by_depth in scores.items() if split in HELD_OUT}


def score_now(run: Run, stage: Stage, segment: Segment, source: Source, report: EpochReport) -> dict[str, Any]:
    """Returns held-out scores of the last head after every `evaluation.every` epochs.

    With `checkpoint.keep=best` those of the validation samples after every epoch; the others choose nothing.
    """
    every = run.config.evaluation.every
    splits: list[SplitName] = ["validation"] if run.config.checkpoint.keep is Keep.best else []
    if every and (report.epoch + 1) % every == 0:
        splits = evaluated_splits(run)
    depth = segment.depths[-1]
    if stage.target == "inputs":
        return {split: losses[depth] for split, losses in reconstruction_losses(run, segment, source, splits).items()}
    scores = class_scores(run, segment, source, splits)

    def score() -> dict[str, Any]:
        scoring = build_scoring(run.config, run.data.spec, run.data.device)
        return {split: _score(run, scoring, split, z[depth]) for split, z in scores.items()}

    return from_main(score)


def class_scores(run: Run, segment: Segment, source: Source, splits: Sequence[SplitName]) -> dict[SplitName, ByDepth]:
    """Returns the class scores of some splits by split and depth, on the CPU of the main process. Collective.

    With `evaluation.mirror` they are means over an image and its mirror image.
    """
    if not splits:
        return {}
    return_freed_memory()
    scores: dict[SplitName, ByDepth] = {}
    for split in splits:
        here = predict(segment, source.evaluate(split), run.precision)
        if run.config.evaluation.mirror:
            there = predict(segment, source.evaluate(split, mirrored=True), run.precision)
            here = {depth: (z + there[depth]) / 2 for depth, z in here.items()}
        scores[split] = {depth: gather_rows(z, run.data.shards[split]) for depth, z in here.items()}
    return_freed_memory()
    return scores


def evaluated_splits(run: Run) -> list[SplitName]:
    """Returns the held-out splits and, with `evaluation.train`, the training split."""
    splits: tuple[SplitName, ...] = ("train", *HELD_OUT) if run.config.evaluation.train else HELD_OUT
    return [split for split in splits if split in run.data.splits]


def class_rows(
    run: Run,
    stages: Sequence[Stage],
    scores: dict[SplitName, ByDepth],
    report: EpochReport,
    earlier: Sequence[FinishedStage],
) -> list[dict[str, Any]]:
    """Returns scores, ensemble and parameters of each depth at which the last of the stages has a classifier."""
    stage, test_labels = stages[-1], run.data.labels["test"].cpu()
    scoring = build_scoring(run.config, run.data.spec, run.data.device)
    known = [*(outcome.scores.get("test", {}) for outcome in earlier), scores["test"]]
    latest = {depth: z for by_depth in known for depth, z in by_depth.items()}
    valid = valid_depths(stages, "labels")
    before = [depth for done in stages[:-1] for depth in done.depths if depth < stage.depths[0]]
    starts = [max(before, default=0), *stage.depths]  # a row counts all blocks after the depth before

    def row(i: int, start: int, depth: int) -> dict[str, Any]:
        z = ensemble({d: latest[d].to(run.data.device) for d in valid if d <= depth}, run.config.ensemble.on)
        return {
            "block": depth,
            "train": report.scores[i],
            **{str(split): _score(run, scoring, split, by_depth[depth]) for split, by_depth in scores.items()},
            "ensemble": scoring.measures(z, test_labels),
            "parameters": {
                "block": count_parameters(*run.network.blocks[start:depth]),
                "head": count_parameters(run.network.head(depth)),
            },
        }

    return [row(i, start, depth) for i, (start, depth) in enumerate(zip(starts, stage.depths, strict=False))]


def reconstruction_rows(
    run: Run, stage: Stage, segment: Segment, source: Source, report: EpochReport
) -> list[dict[str, Any]]:
    """Returns errors and parameters of each depth whose decoder the stage trains."""
    losses, decoders = reconstruction_losses(run, segment, source, evaluated_splits(run)), run.network.readers("inputs")
    return [
        {
            "block": depth,
            "reconstruction": {"train": report.scores[i], **{split: at[depth] for split, at in losses.items()}},
            "parameters": {
                "block": count_parameters(*run.network.blocks[stage.start : depth]),
                "decoder": count_parameters(decoders[str(depth)]),
            },
        }
        for i, depth in enumerate(stage.depths)
    ]


def reconstruction_losses(
    run: Run, segment: Segment, source: Source, splits: Sequence[SplitName]
) -> dict[SplitName, dict[int, dict[str, float]]]:
    """Returns the mean reconstruction error of some splits and each depth, without penalties. Collective."""
    objective = build_objective(run.config, "inputs", segment, run.data)
    errors = {
        split: mean_losses(
            segment, source.evaluate(split, "inputs"), run.precision, objective, run.data.shards[split].ranks > 1
        )
        for split in splits
    }
    return {split: {d: {"loss": loss} for d, loss in by_depth.items()} for split, by_depth in errors.items()}


def _score(run: Run, scoring: Scoring, split: SplitName, z: Tensor) -> dict[str, float]:
    labels = run.data.labels[split].cpu()
    if split == "train":
        labels = labels[: run.data.having("labels")]
    return {"loss": scoring.loss(z, labels), **scoring.measures(z, labels)}
