"""One stage of a run: train, save after each epoch, evaluate, save for good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from layerwise.config import build
from layerwise.core.distributed import AllReduceMax, from_main
from layerwise.core.machine import peak_memory_mb
from layerwise.experiment.context import Run
from layerwise.experiment.scores import score_now, stage_rows
from layerwise.features.sources import Source
from layerwise.models.blocknet import Segment
from layerwise.runs.finished import FinishedStage, segment_of
from layerwise.training.beginnings import carry_head, warm_start, whiten_input
from layerwise.training.plan import Stage
from layerwise.training.pruning import most_important, prune_block, taylor_importance
from layerwise.training.reports import EpochReport
from layerwise.training.trainer import StageTrainer

SECONDS_BETWEEN_CHECKPOINTS = 5.0
"""Epochs that are shorter than this are not all saved; a signal saves at once."""


def run_stage(
    run: Run, stages: Sequence[Stage], source: Source, earlier: Sequence[FinishedStage], advance_seconds: float
) -> FinishedStage:
    """Trains the next stage, or goes on with it, and evaluates it.

    Args:
        run: the run that it belongs to.
        stages: all of the run, as far as they are known.
        source: gives x_start.
        earlier: the finished stages; the next one is trained.
        advance_seconds: what it took to prepare the source for this stage.

    Raises:
        Interrupted: a signal came; everything is saved.
        NonFiniteLoss: the training diverged.
        LayerwiseError: a checkpoint or record cannot be written.
    """
    stage = stages[len(earlier)]
    segment = segment_of(run.network, stage)
    segment.requires_grad_(True)  # fine-tuning trains blocks that were frozen
    if run.data.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.data.device)
    trainer = build_trainer(run, stages, stage, segment)
    saved = run.checkpoints.load_training(stage)
    report: EpochReport | None = None
    if saved is not None:
        trainer.load_state_dict(saved["trainer"])
        if saved["precision"] != run.precision.name:
            run.display.warn(f"this stage began in {saved['precision']} and goes on in {run.precision.name}")
        report = EpochReport(**saved["report"]) if saved["report"] else None
        advance_seconds += saved["advance_seconds"]
    else:
        set_beginning(run, stage, source)
    run.metrics.truncate(stage.index + 1, trainer.epoch)

    title = f"{stage.title}/{run.agenda.depths[-1]}"
    epochs_left = sum(later.epochs for later in stages[stage.index :]) - trainer.epoch
    run.display.begin_stage(title, stage.epochs, trainer.recipe.steps_per_epoch, trainer.epoch, epochs_left)
    recipes = [build.build_recipe(run.config, done, run.data) for done in stages[: stage.index]]
    steps_before = sum(recipe.epochs * recipe.steps_per_epoch for recipe in recipes)
    last_saved = time.perf_counter()
    try:
        for latest in trainer.run(source, run.stop, run.display.glance):
            if latest.complete:
                report = latest
                with trainer.final_weights():
                    held_out = score_now(run, stage, segment, source, report)
                line = metrics_line(stage, report, steps_before + trainer.steps_done) | held_out
                run.metrics.append(line)
                run.loggers.epoch(line)
                run.display.end_epoch(report, held_out)
            is_last, stopping = trainer.epoch == stage.epochs, run.stop.all_agree()
            if is_last or stopping or from_main(partial(is_due, last_saved)):
                tree = {
                    "trainer": trainer.state_dict(),
                    "report": asdict(report) if report else None,
                    "advance_seconds": advance_seconds,
                    "precision": run.precision.name,
                }
                run.checkpoints.save_training(stage, trainer.steps_done, tree)
                last_saved = time.perf_counter()
            if stopping:  # a signal that comes while saving has to wait for the next save
                run.stop.all_check()
    finally:
        run.display.end_stage()

    assert report is not None  # a stage has at least one epoch
    trainer.end()
    trainer.optimizer.zero_grad(set_to_none=True)  # else the gradients of all stages stay until the run ends
    started = time.perf_counter()
    with run.display.doing(f"{title}  evaluating"):
        scored, scores = stage_rows(run, stages[: stage.index + 1], segment, source, report, earlier)
    run.stop.all_check()
    (memory,) = AllReduceMax(peak_memory_mb(run.data.device)).wait()
    costs = {
        "seconds": {"train": trainer.seconds, "advance": advance_seconds, "evaluate": time.perf_counter() - started},
        "images_per_second": stage.epochs * report.images / max(trainer.seconds, 1e-9),
        "peak_memory_mb": memory,
        **trainer.team.gather_utilisation(),
    }
    kept_on_host = {split: {depth: z.cpu() for depth, z in by_depth.items()} for split, by_depth in scores.items()}
    filters = filters_to_keep(run, stage, source)
    rows = from_main(lambda: [row | costs for row in scored])
    run.display.show_rows(stage.title, rows)
    outcome = FinishedStage(rows, segment.state_dict(), kept_on_host, filters)
    run.checkpoints.save_finished(stage, vars(outcome))
    outcome = replace(outcome, segment={})  # the network has the weights; those of pruned filters may go
    if outcome.kept_filters is not None:
        prune_block(run.network, stage.stop, outcome.kept_filters)
    return outcome


def is_due(last_saved: float) -> bool:
    """Whether a stage in training is to be saved again, after it was saved at a moment of the clock."""
    return time.perf_counter() - last_saved > SECONDS_BETWEEN_CHECKPOINTS


def set_beginning(run: Run, stage: Stage, source: Source) -> None:
    """Weights that the stage begins with, where they are not the network's initialisation."""
    readers = run.network.readers(stage.target)
    if stage.index == 0:
        whiten_input(run.network, run.data)
    if stage.carry_from is not None and not carry_head(readers, stage.carry_from, stage.stop):
        run.display.note(f"depth {stage.stop}: the head of depth {stage.carry_from} has another shape; it starts fresh")
    if stage.restart_head:
        initial = build.build_network(run.config, run.data.spec, [stage]).readers(stage.target)
        readers[str(stage.stop)].load_state_dict(initial[str(stage.stop)].state_dict())
    if stage.warm_start:
        warm_start(run.network, stage.stop, source.train(stage.index, epoch=0))


def filters_to_keep(run: Run, stage: Stage, source: Source) -> list[int] | None:
    """The filters of the stage's block that matter most, where the plan prunes it."""
    if stage.prune_to is None:
        return None
    block, head = run.network.blocks[stage.stop - 1], run.network.head(stage.stop)
    batches = run.stop.all_watch(source.train(stage.index, epoch=0))
    return most_important(taylor_importance(block, head, batches, run.precision), stage.prune_to)


def build_trainer(run: Run, stages: Sequence[Stage], stage: Stage, segment: Segment) -> StageTrainer:
    """The trainer of a stage at its beginning."""
    if run.config.compile:  # all stages share one forward, which is compiled anew where shapes differ
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(stages))
    team = build.build_team(run.config, stage, run.network, run.data, run.stop)
    optimizer = build.build_optimizer(run.config, segment)
    return StageTrainer(
        stage.index,
        segment,
        build.build_objective(run.config, stage.target, team.local_segment(segment)),
        optimizer,
        build.build_recipe(run.config, stage, run.data),
        run.precision,
        team,
        compiled_for=build.build_batch_plan(run.config, run.data).size if run.config.compile else None,
        graph=build.build_graph(run.config, run.data.device, run.precision, optimizer),
    )


def metrics_line(stage: Stage, report: EpochReport, step: int) -> dict[str, Any]:
    """A line of metrics.jsonl for the last head of the stage, and with several heads for each of them.

    Args:
        stage: that trains.
        report: of an epoch.
        step: of the whole run, at the epoch's end.
    """
    top1: Sequence[float | None] = report.top1 or [None] * len(stage.depths)  # of a reconstruction
    heads = [
        {"block": depth, "loss": loss, "top1": accuracy}
        for depth, loss, accuracy in zip(stage.depths, report.loss, top1, strict=True)
    ]
    line = {
        "stage": stage.index + 1,
        "target": stage.target,
        "epoch": report.epoch + 1,
        "step": step,
        **heads[-1],
        "lr": report.lr,
        "seconds": report.seconds,
        "images_per_second": report.images_per_second,
    }
    return line | ({"heads": heads} if len(heads) > 1 else {})
