"""One stage of a run, in four steps: begin, train, evaluate, finish."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from layerwise.config import build
from layerwise.config.groups.training import Keep
from layerwise.core.distributed import AllReduceMax, from_main, ranks
from layerwise.core.machine import MemoryGrowth, peak_memory_mb
from layerwise.experiment.best_epoch import BestEpoch, better
from layerwise.experiment.context import Run
from layerwise.experiment.memory import stage_memory
from layerwise.experiment.profiling import profiled
from layerwise.experiment.scores import ByDepth, score_now, stage_rows
from layerwise.features.sources import Source
from layerwise.models.blocknet import Segment
from layerwise.models.synced_norm import synchronised
from layerwise.runs.finished import FinishedStage, segment_of
from layerwise.runs.metrics import metrics_line
from layerwise.training import pruning
from layerwise.training.beginnings import carry_head, have_same_shape, warm_start, whiten_input
from layerwise.training.plan import Stage
from layerwise.training.pruning import prune_block
from layerwise.training.reports import EpochReport
from layerwise.training.trainer import StageTrainer

SECONDS_BETWEEN_CHECKPOINTS = 5.0
"""Shorter epochs are not all saved; a signal saves at once."""


@dataclass
class StageInTraining:
    """A stage between its begin and its finish.

    Attributes:
        steps_before: steps of the stages before it.
        report: results of the last complete epoch, in the end of the one that is kept; None before the end of the
            first.
        best: the best epoch so far, where that is kept.
        advance_seconds: time that the preparation of the source took, in all processes that worked on the stage.
        growth: of the memory since the stage began, in this process.
    """

    stages: Sequence[Stage]
    stage: Stage
    segment: Segment
    source: Source
    trainer: StageTrainer
    steps_before: int
    report: EpochReport | None
    advance_seconds: float
    growth: MemoryGrowth
    best: BestEpoch | None = None


@dataclass(frozen=True)
class SavedTraining:
    """The checkpoint of a stage in training.

    Attributes:
        trainer: state of the `StageTrainer`.
        report: fields of the `EpochReport` of the last complete epoch, or None.
        advance_seconds: time that the preparation of the source took.
        precision: name of the number format that the stage was trained in.
        best: fields of the `BestEpoch` so far, or None.
    """

    trainer: dict[str, Any]
    report: dict[str, Any] | None
    advance_seconds: float
    precision: str
    best: dict[str, Any] | None = None


def run_stage(
    run: Run, stages: Sequence[Stage], source: Source, earlier: Sequence[FinishedStage], advance_seconds: float
) -> FinishedStage:
    """Trains the next stage, or continues it from its checkpoint, and evaluates it.

    Args:
        advance_seconds: time that the preparation of the source took.

    Raises:
        Interrupted: a signal came; everything is saved.
        NonFiniteLoss: the training diverged.
        LayerwiseError: a checkpoint or record cannot be written.
    """
    training = begin(run, stages, stages[len(earlier)], source, advance_seconds)
    train(run, training)
    rows, scores = evaluate(run, training, earlier)
    return finish(run, training, rows, scores)


def begin(run: Run, stages: Sequence[Stage], stage: Stage, source: Source, advance_seconds: float) -> StageInTraining:
    """Builds the trainer, and restores its checkpoint or sets the weights that the stage begins with."""
    if stage.head_width is not None:
        head = build.build_last_head(run.config, run.network, run.data.spec, stage.head_width)
        head.to(run.data.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if ranks() > 1 and run.config.distributed.sync_batchnorm:
            synchronised(head, run.data.device)
        run.network.heads[str(stage.stop)] = head
    segment = segment_of(run.network, stage)
    segment.requires_grad_(True)  # fine-tuning trains blocks that were frozen
    readers = run.network.readers(stage.target)
    if stage.freeze_head and stage.carry_from and have_same_shape(readers, stage.carry_from, stage.stop):
        readers[str(stage.stop)].requires_grad_(False)
    growth = MemoryGrowth(run.data.device)
    trainer = build_trainer(run, stages, stage, segment)
    steps_before = sum(build.build_recipe(run.config, done, run.data).steps for done in stages[: stage.index])
    training = StageInTraining(stages, stage, segment, source, trainer, steps_before, None, advance_seconds, growth)
    if (tree := run.checkpoints.load_training(stage)) is not None:
        restore_training(run, training, SavedTraining(**tree))
    else:
        set_beginning(run, stage, source)
    if lost := run.metrics.truncate(stage.index + 1, trainer.epoch):
        run.display.warn(lost)
    return training


def restore_training(run: Run, training: StageInTraining, saved: SavedTraining) -> None:
    """Continues a stage from its checkpoint."""
    if saved.precision != run.precision.name:
        run.display.warn(f"this stage began in {saved.precision} and continues in {run.precision.name}")
    training.trainer.load_state_dict(saved.trainer)
    training.report = EpochReport(**saved.report) if saved.report else None
    training.best = BestEpoch(**saved.best) if saved.best else None
    training.advance_seconds += saved.advance_seconds


def train(run: Run, training: StageInTraining) -> None:
    """Trains the stage to its end; records each epoch and saves the training now and then.

    Raises:
        Interrupted: a signal came; the training is saved.
    """
    trainer, stage = training.trainer, training.stage
    epochs_left = sum(later.epochs for later in training.stages[stage.index :]) - trainer.epoch
    run.display.begin_stage(
        title_of(run, stage), stage.epochs, trainer.recipe.steps_per_epoch, trainer.epoch, epochs_left
    )
    last_saved = time.perf_counter()
    try:
        with profiled(run, stage, trainer) as after_step:
            settled = training.growth.settle
            for report in trainer.run(training.source, run.stop, run.display.glance, settled, after_step):
                if report.complete:  # else a stop was requested within the epoch
                    training.report = report
                    record_epoch(run, training, report)
                # collective calls, made by all processes after each epoch: no condition may skip one
                stopping = run.stop.all_agree()
                due = from_main(partial(is_due, last_saved))
                if stopping or due or trainer.epoch == stage.epochs:
                    save_training(run, training)
                    last_saved = time.perf_counter()
                if stopping:  # decided before the save: a signal during it waits for the next one
                    run.stop.all_check()
    finally:
        run.display.end_stage()
    trainer.end()
    if training.best is not None:
        training.report = training.best.put_back(training.segment)
    trainer.optimizer.zero_grad(set_to_none=True)  # else the gradients of all stages stay in memory


def is_due(last_saved: float) -> bool:
    """Returns whether to save a stage in training again, which was last saved at a time of the performance counter."""
    return time.perf_counter() - last_saved > SECONDS_BETWEEN_CHECKPOINTS


def record_epoch(run: Run, training: StageInTraining, report: EpochReport) -> None:
    """Scores the held-out samples, if they are due, and records the epoch. Collective."""
    with training.trainer.final_weights():
        held_out = score_now(run, training.stage, training.segment, training.source, report)
        if run.config.checkpoint.keep is Keep.best:
            training.best = better(training.best, report, held_out["validation"], training.segment)
    line = metrics_line(training.stage, report, training.steps_before + training.trainer.steps_done) | held_out
    run.metrics.append(line)
    run.loggers.epoch(line)
    run.display.end_epoch(report, held_out)


def save_training(run: Run, training: StageInTraining) -> None:
    """Writes a checkpoint of the stage in training. Collective."""
    report = asdict(training.report) if training.report else None
    state = training.trainer.state_dict()
    best = vars(training.best) if training.best else None
    saved = SavedTraining(state, report, training.advance_seconds, run.precision.name, best)
    from_main(run.folder.check_present)
    run.checkpoints.save_training(training.stage, training.trainer.steps_done, vars(saved))


def title_of(run: Run, stage: Stage) -> str:
    """Returns the title of a stage with the depth of the network, such as `block 2/8`."""
    return f"{stage.title}/{run.agenda.depths[-1]}"


def evaluate(
    run: Run, training: StageInTraining, earlier: Sequence[FinishedStage]
) -> tuple[list[dict[str, Any]], dict[str, ByDepth]]:
    """Returns a row of results for each depth that the stage reads, and the scores of held-out samples. Collective."""
    stage, trainer, report = training.stage, training.trainer, training.report
    assert report is not None  # a stage has at least one epoch
    memory = stage_memory(run, training.segment, trainer, training.growth)
    started = time.perf_counter()
    with run.display.doing(f"{title_of(run, stage)}  evaluating"):
        trained = training.stages[: stage.index + 1]
        rows, scores = stage_rows(run, trained, training.segment, training.source, report, earlier)
    run.stop.all_check()
    seconds = {
        "train": trainer.seconds,
        "advance": training.advance_seconds,
        "evaluate": time.perf_counter() - started,
    }
    (peak,) = AllReduceMax(peak_memory_mb(run.data.device)).wait()
    costs = {
        "seconds": seconds,
        "images_per_second": stage.epochs * report.images / max(trainer.seconds, 1e-9),
        "peak_memory_mb": peak,
        **memory,
        **trainer.team.gather_utilisation(),
    }
    kept = {} if training.best is None else {"kept_epoch": report.epoch + 1}
    return from_main(lambda: [row | kept | costs for row in rows]), scores


def finish(
    run: Run, training: StageInTraining, rows: list[dict[str, Any]], scores: dict[str, ByDepth]
) -> FinishedStage:
    """Shows and saves the results of the stage, and prunes its block where the plan says so. Collective."""
    stage = training.stage
    kept_filters = filters_to_keep(run, stage, training.source)
    run.display.show_rows(stage.title, rows)
    on_host = {split: {depth: z.cpu() for depth, z in by_depth.items()} for split, by_depth in scores.items()}
    # saved with all filters, beside the list of those kept: a restored run prunes again
    outcome = FinishedStage(rows, training.segment.state_dict(), on_host, kept_filters)
    from_main(run.folder.check_present)
    run.checkpoints.save_finished(stage, vars(outcome))
    if kept_filters is not None:
        prune_block(run.network, stage.stop, kept_filters)
    return replace(outcome, segment={})  # the network holds the weights; those of pruned filters may be freed


def set_beginning(run: Run, stage: Stage, source: Source) -> None:
    """Sets the weights that the stage begins with, where they are not the network's initialisation. Collective."""
    readers = run.network.readers(stage.target)
    if stage.index == 0 and run.config.model.pretrained is None:
        whiten_input(run.network, run.data)
    if stage.carry_from is not None and not carry_head(readers, stage.carry_from, stage.stop):
        run.display.note(f"depth {stage.stop}: the head of depth {stage.carry_from} has another shape; it starts fresh")
    if stage.restart_head:
        initial = build.build_network(run.config, run.data.spec, [stage]).readers(stage.target)
        readers[str(stage.stop)].load_state_dict(initial[str(stage.stop)].state_dict())
    if stage.warm_start:
        warm_start(run.network, stage.stop, source.train(stage.index, epoch=0))


def filters_to_keep(run: Run, stage: Stage, source: Source) -> list[int] | None:
    """Returns the most important filters of the stage's block, or None if the plan does not prune it. Collective."""
    if stage.prune_to is None:
        return None
    return pruning.filters_to_keep(
        run.network,
        stage.stop,
        stage.prune_to,
        stage.prune_rounds,
        lambda: run.stop.all_watch(source.train(stage.index, epoch=0)),
        run.precision,
    )


def build_trainer(run: Run, stages: Sequence[Stage], stage: Stage, segment: Segment) -> StageTrainer:
    """Builds the trainer of a stage. Collective: it may wrap the segment for several processes."""
    if run.config.compile:  # all stages share one forward pass, which is compiled again for other shapes
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(stages))
    team = build.build_team(run.config, stage, run.network, run.data, run.stop)
    optimizer = build.build_optimizer(run.config, segment)
    return StageTrainer(
        stage.index,
        segment,
        build.build_objective(run.config, stage.target, team.local_segment(segment), run.data),
        optimizer,
        build.build_recipe(run.config, stage, run.data),
        run.precision,
        team,
        compiled_for=build.build_batch_plan(run.config, run.data).part_size if run.config.compile else None,
        graph=build.build_graph(run.config, run.data.device, run.precision, optimizer),
    )
