"""One stage of a run: train, save after each epoch, evaluate, save for good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from layerwise import build
from layerwise.allocator import return_freed_memory
from layerwise.checkpoint import Checkpoints
from layerwise.compression import most_important, prune_block, taylor_importance
from layerwise.data import ImageData, SplitName
from layerwise.ensemble import EnsembleOn, ensemble
from layerwise.environment import peak_memory_mb
from layerwise.evaluate import predict, score
from layerwise.finished import FinishedStage, segment_of
from layerwise.interrupt import StopRequest
from layerwise.models.blocknet import BlockNet, Segment, count_parameters
from layerwise.plan import Stage
from layerwise.precision import Precision
from layerwise.progress import Display
from layerwise.record import Metrics
from layerwise.schema import Config, filled
from layerwise.sources import Source
from layerwise.trainer import EpochReport, StageTrainer
from layerwise.types import Scores
from layerwise.warm_start import warm_start

HELD_OUT: tuple[SplitName, ...] = ("validation", "test")


@dataclass(frozen=True)
class Run:
    """What all stages of a run share."""

    config: Config
    stages: Sequence[Stage]
    network: BlockNet
    data: ImageData
    precision: Precision
    checkpoints: Checkpoints
    metrics: Metrics
    display: Display
    stop: StopRequest


def run_stage(
    run: Run, stage: Stage, source: Source, earlier: Sequence[FinishedStage], advance_seconds: float
) -> FinishedStage:
    """Trains a stage, or goes on with it, and evaluates it.

    Args:
        run: the run that it belongs to.
        stage: what to train.
        source: gives x_start.
        earlier: the stages before, for the ensemble.
        advance_seconds: what it took to prepare the source for this stage.

    Raises:
        Interrupted: a signal came; everything is saved.
        NonFiniteLoss: the training diverged.
        LayerwiseError: a checkpoint or record cannot be written.
    """
    segment = segment_of(run.network, stage)
    if run.data.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.data.device)
    trainer = build_trainer(run, stage, segment)
    saved = run.checkpoints.load_training(stage)
    report: EpochReport | None = None
    if saved is not None:
        trainer.load_state_dict(saved["trainer"])
        if saved["precision"] != run.precision.name:
            run.display.warn(f"this stage began in {saved['precision']} and goes on in {run.precision.name}")
        report = EpochReport(**saved["report"]) if saved["report"] else None
        advance_seconds += saved["advance_seconds"]
    elif stage.warm_start:
        warm_start(run.network, stage.stop, source.train(stage.index, epoch=0))
    run.metrics.truncate(stage.index + 1, trainer.epoch)

    steps_per_epoch = trainer.recipe.steps_per_epoch
    title = f"{stage.title}/{len(run.network.blocks)}"
    epochs_left = sum(later.epochs for later in run.stages[stage.index :]) - trainer.epoch
    run.display.begin_stage(title, stage.epochs, steps_per_epoch, trainer.epoch, epochs_left, trainer.step)
    try:
        for latest in trainer.run(source, run.stop, run.display.glance):
            if latest.complete:
                report = latest
                held_out = evaluate_now(run, segment, source, report)
                run.metrics.append(metrics_line(run, stage, report, steps_per_epoch) | held_out)
                run.display.end_epoch(report, held_out)
            tree = {
                "trainer": trainer.state_dict(),
                "report": asdict(report) if report else None,
                "advance_seconds": advance_seconds,
                "precision": run.precision.name,
            }
            run.checkpoints.save_training(stage, trainer.steps_done, tree)
            run.stop.check()
    finally:
        run.display.end_stage()

    assert report is not None  # a stage has at least one epoch
    trainer.optimizer.zero_grad(set_to_none=True)  # else the gradients of all stages stay until the run ends
    started = time.perf_counter()
    scores = held_out_scores(run, segment, source)
    run.stop.check()
    seconds = {
        "train": trainer.seconds,
        "advance": advance_seconds,
        "evaluate": time.perf_counter() - started,
    }
    images = stage.epochs * len(run.data.splits["train"])
    costs = {
        "seconds": seconds,
        "images_per_second": images / max(trainer.seconds, 1e-9),
        "peak_memory_mb": peak_memory_mb(run.data.device),
    }
    rows = [
        {"block": depth, "train": {"loss": report.loss[i], "top1": report.top1[i]}, **quality, **costs}
        for i, (depth, quality) in enumerate(describe_depths(run, stage, scores, earlier).items())
    ]
    kept_on_host = {split: {depth: z.cpu() for depth, z in by_depth.items()} for split, by_depth in scores.items()}
    outcome = FinishedStage(rows, segment.state_dict(), kept_on_host, filters_to_keep(run, stage, source))
    run.checkpoints.save_finished(stage, vars(outcome))
    outcome = replace(outcome, segment={})  # the network has the weights; those of pruned filters may go
    if outcome.kept_filters is not None:
        prune_block(run.network, stage.stop, outcome.kept_filters)
    return outcome


def filters_to_keep(run: Run, stage: Stage, source: Source) -> list[int] | None:
    """The filters of the stage's block that matter most, where the plan prunes it."""
    if stage.prune_to is None:
        return None
    block, head = run.network.blocks[stage.stop - 1], run.network.head(stage.stop)
    batches = run.stop.watch(source.train(stage.index, epoch=0))
    return most_important(taylor_importance(block, head, batches, run.precision), stage.prune_to)


def build_trainer(run: Run, stage: Stage, segment: Segment) -> StageTrainer:
    """The trainer of a stage at its beginning."""
    if run.config.compile:  # all stages share one forward, which is compiled anew for each
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(run.stages))
    return StageTrainer(
        stage.index,
        segment,
        build.build_objective(run.config),
        build.build_optimizer(run.config, segment),
        build.build_recipe(run.config, stage, len(run.data.splits["train"])),
        run.precision,
        heads=len(stage.depths),
        compiled=run.config.compile,
    )


def held_out_scores(run: Run, segment: Segment, source: Source) -> dict[str, dict[int, Tensor]]:
    """Class scores of all held-out samples, by split and depth."""
    return_freed_memory()
    scores: dict[str, dict[int, Tensor]] = {
        split: predict(segment, source.evaluate(split), run.precision) for split in HELD_OUT if split in run.data.splits
    }
    return_freed_memory()
    return scores


def evaluate_now(run: Run, segment: Segment, source: Source, report: EpochReport) -> dict[str, Scores]:
    """Scores of the last head in mid-stage, every `evaluation.every` epochs; nothing is chosen by them."""
    every = run.config.evaluation.every
    if not every or (report.epoch + 1) % every:
        return {}
    scores = held_out_scores(run, segment, source)
    return {
        split: score(by_depth[segment.depths[-1]], run.data.splits[split].labels)  # type: ignore[index]
        for split, by_depth in scores.items()
    }


def describe_depths(
    run: Run, stage: Stage, scores: dict[str, dict[int, Tensor]], earlier: Sequence[FinishedStage]
) -> dict[int, dict[str, Any]]:
    """Held-out scores, ensemble and parameters of each depth that the stage reads."""
    described = {}
    on = filled(run.config.ensemble.on)
    below = stage.start if stage.start < stage.stop else stage.stop - 1  # of a head alone: the block that it reads
    for depth in stage.depths:
        quality: dict[str, Any] = {
            split: score(by_depth[depth], run.data.splits[split].labels)  # type: ignore[index]
            for split, by_depth in scores.items()
        }
        known = [outcome.scores["test"] for outcome in earlier] + [scores["test"]]
        heads = {d: z.to(run.data.device) for by_depth in known for d, z in by_depth.items() if d <= depth}
        z = ensemble(heads, on)
        combined = score(z, run.data.splits["test"].labels, on_probabilities=on is EnsembleOn.probabilities)
        described[depth] = quality | {
            "ensemble": {"top1": combined["top1"], "top5": combined["top5"]},
            "parameters": {
                "block": count_parameters(*run.network.blocks[below:depth]),
                "head": count_parameters(run.network.head(depth)),
            },
        }
        below = depth
    return described


def metrics_line(run: Run, stage: Stage, report: EpochReport, steps_per_epoch: int) -> dict[str, Any]:
    """A line of metrics.jsonl for the last head of the stage, and with several heads for each of them.

    `step` counts over the whole run.
    """
    epochs_before = sum(other.epochs for other in run.stages[: stage.index])
    heads = [
        {"block": depth, "loss": loss, "top1": top1}
        for depth, loss, top1 in zip(stage.depths, report.loss, report.top1, strict=True)
    ]
    line = {
        "stage": stage.index + 1,
        "block": stage.stop,
        "epoch": report.epoch + 1,
        "step": (epochs_before + report.epoch + 1) * steps_per_epoch,
        "loss": report.loss[-1],
        "top1": report.top1[-1],
        "lr": report.lr,
        "seconds": report.seconds,
        "images_per_second": report.images_per_second,
    }
    return line | ({"heads": heads} if len(heads) > 1 else {})
