"""A run from top to bottom: build, then train stage after stage, evaluate, save, advance."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from layerwise import build
from layerwise.allocator import keep_freed_memory
from layerwise.cache_plan import CacheDecision
from layerwise.checkpoint import Checkpoints
from layerwise.config import parse
from layerwise.data import DatasetSpec
from layerwise.errors import Interrupted, LayerwiseError
from layerwise.finished import FinishedStage, restore
from layerwise.interrupt import StopRequest
from layerwise.precision import Precision, choose_device, choose_precision
from layerwise.progress import Display
from layerwise.record import Metrics, write_results
from layerwise.report.tables import results_table, show
from layerwise.resolve import resolve
from layerwise.results import assemble_results, run_facts
from layerwise.reuse import shared_stages, take_over
from layerwise.run_folder import METRICS, RESULTS, RunFolder
from layerwise.schema import Config, ProgressName, Summary
from layerwise.stage_run import Run, run_stage
from layerwise.summarise import summarise
from layerwise.summary import total_parameters


def run(composed: DictConfig) -> None:
    """Does what a composed configuration asks for: a summary, or a run to its end.

    A finished run prints its results again; an unfinished one goes on where it stopped.

    Raises:
        LayerwiseError: what the user can mend.
    """
    config = resolve(parse(composed))
    if config.summary is not Summary.none:
        summarise(config)
        return
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    spec = build.build_spec(config)  # refuses what cannot be built, before a folder is made
    folder = RunFolder(config)
    try:
        results = None if config.fresh else folder.finished_results()
        if results is not None and all_blocks_readable(config, folder):
            print("this run is finished; fresh=true would start it over", file=sys.stderr)
        else:
            results = train(config, spec, folder, device, precision)
        show(results_table(results))
        print(f"run folder: {folder.path}")
    finally:
        folder.close()


def train(
    config: Config,
    spec: DatasetSpec,
    folder: RunFolder,
    device: torch.device,
    precision: Precision,
) -> dict[str, Any]:
    """Trains all stages that are not finished yet and returns the results."""
    stages = build.build_stages(config)
    network = build.build_network(config, spec, stages)
    costs = build.build_costs(config, network, spec, precision.dtype)
    display = Display(config.progress is ProgressName.auto)
    decision = build.build_cache_decision(config, spec, stages, costs, precision, folder.cache)
    display.note(f"run folder: {folder.path}")
    display.note(f"{device}, {precision.name}; {decision.message or 'no cache'}")

    source = None if config.plan.reuse is None else Path(config.plan.reuse)
    shared = [] if source is None else shared_stages(source, config, folder.path)
    data = build.build_data(config, spec, device)
    folder.begin(spec)
    checkpoints = Checkpoints(folder.checkpoints, display.warn)
    if source is not None and (reused := take_over(source, shared, checkpoints)):
        display.note(f"{reused} of {len(stages)} stages are taken from {source}")

    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # shapes are fixed
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(
        config=config,
        stages=stages,
        network=network,
        data=data,
        precision=precision,
        checkpoints=checkpoints,
        metrics=Metrics(folder.path / METRICS),
        display=display,
        stop=StopRequest(),
    )
    finished = restore_finished(run)
    facts = run_facts(decision, precision, device)

    def save_results(status: str, **more: str) -> dict[str, Any]:
        results = assemble_results(config, folder.path.name, finished, total_parameters(costs), status) | facts | more
        write_results(folder.path / RESULTS, results)
        return results

    try:
        with run.stop:
            train_stages(run, finished, decision, folder.cache, lambda: save_results("running"))
    except LayerwiseError as error:
        with contextlib.suppress(LayerwiseError):  # the disk may be what failed
            save_results("interrupted" if isinstance(error, Interrupted) else "failed", error=str(error))
        raise
    return save_results("completed")


def train_stages(
    run: Run, finished: list[FinishedStage], decision: CacheDecision, cache: Path, after_stage: Callable[[], object]
) -> None:
    """Trains what is not finished, stage after stage, and appends it to `finished`."""
    done = len(finished)
    start = run.stages[done].start if done < len(run.stages) else 0
    started = time.perf_counter()
    prefix = list(run.network.blocks[:start])
    source = build.build_source(run.config, run.data, run.precision, decision, cache, prefix, run.stop)
    for stage in run.stages[done:]:
        if stage.start > source.depth:
            source.advance(list(run.network.blocks[source.depth : stage.start]))
        finished.append(run_stage(run, stage, source, finished, advance_seconds=time.perf_counter() - started))
        after_stage()
        started = time.perf_counter()
    source.close()


def all_blocks_readable(config: Config, folder: RunFolder) -> bool:
    """Whether the checkpoints of a finished run are still whole; if not, it is repaired by running on."""
    stages = build.build_stages(config)
    trees, _ = Checkpoints(folder.checkpoints, warn=print).read_finished(stages)
    return len(trees) == len(stages)


def restore_finished(run: Run) -> list[FinishedStage]:
    """Loads the finished stages of an earlier process into the network."""
    finished = [FinishedStage(**tree) for tree in run.checkpoints.load_finished(run.stages)]
    restore(run.network, run.stages, finished)
    return finished
