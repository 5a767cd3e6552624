"""A run from top to bottom: build, then train stage after stage, evaluate, save, advance."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from omegaconf import DictConfig

from layerwise.config import build
from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.config.schema import Parallel, ProgressName, Summary
from layerwise.core import distributed
from layerwise.core.distributed import from_main, noticing_lost_processes, one_per_machine_first, ranks, together
from layerwise.core.errors import Interrupted, LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.core.machine import keep_freed_memory, share_cores
from layerwise.core.precision import Precision, choose_device, choose_precision
from layerwise.data.dataset import Dataset, DatasetSpec
from layerwise.experiment.context import Run
from layerwise.experiment.recorder import Recorder
from layerwise.experiment.results import run_facts
from layerwise.experiment.stage import run_stage
from layerwise.experiment.summary import summarise
from layerwise.experiment.work import workload
from layerwise.features.cache_plan import CacheDecision
from layerwise.models.synced_norm import synchronised
from layerwise.reporting.loggers.base import Loggers
from layerwise.reporting.loggers.choice import build_loggers, check_loggers
from layerwise.reporting.tables import results_table, show
from layerwise.reporting.terminal import Display
from layerwise.runs.checkpoints import Checkpoints, rows_of
from layerwise.runs.depth_search import final_config, run_config, search_config
from layerwise.runs.finished import FinishedStage, restore
from layerwise.runs.folder import METRICS, REPORT, RunFolder, check_data
from layerwise.runs.metrics import Metrics, validation_top1
from layerwise.runs.reuse import shared_stages, take_over
from layerwise.training.plan import Stage


def run(composed: DictConfig) -> float | None:
    """Does what a composed configuration asks for: a summary, or a run to its end.

    A finished run prints its results again; an unfinished one goes on where it stopped.

    Returns:
        what a search over configurations maximises: the run's validation accuracy, if samples are held out.

    Raises:
        LayerwiseError: what the user can mend.
    """
    config = together(lambda: resolve(parse(composed)))  # in a multirun they have met already
    here = distributed.place()
    if config.summary is not Summary.none:
        if here.rank == 0:
            summarise(config)
        return None
    device = choose_device(config.device, here)
    share_cores(here.local_ranks)
    distributed.join(here, device, config.distributed.timeout)
    precision = choose_precision(config.precision, device)
    with noticing_lost_processes():
        results, folder = run_in_folder(config, device, precision)
    if distributed.is_main():
        show(results_table(results))
        print(f"run folder: {folder}")
        if (folder / REPORT).exists():
            print(f"report: {folder / REPORT}")
    return validation_top1(results)


FINISHED = "this run is finished; fresh=true would start it over"


def run_in_folder(
    config: ResolvedConfig, device: torch.device, precision: Precision, if_finished: str = FINISHED
) -> tuple[dict[str, Any], Path]:
    """The results of a resolved configuration and their folder: trained now, or found there.

    Args:
        config: resolved.
        device, precision: what it computes on.
        if_finished: what is said where there is nothing left to train.
    """
    # refuses what cannot be built, before a folder is made
    spec = one_per_machine_first(lambda: build.build_spec(config))
    from_main(lambda: check_loggers(config))
    folder = RunFolder(config)
    try:
        if not config.fresh:
            from_main(lambda: check_data(folder.path, spec))
        results = None if config.fresh else folder.finished_results()
        if results is not None and from_main(lambda: all_blocks_readable(folder)):
            if distributed.is_main():
                print(if_finished, file=sys.stderr)
        elif config.plan.search_fraction is not None:
            results = search_then_train(config, spec, folder, device, precision)
        else:
            results = train(config, spec, folder, device, precision)
    finally:
        folder.close()
    return results, folder.path


def search_then_train(
    config: ResolvedConfig, spec: DatasetSpec, folder: RunFolder, device: torch.device, precision: Precision
) -> dict[str, Any]:
    """Chooses the depth on a part of the data and trains it on all of them."""
    stages = build.build_agenda(config).stages()
    data = read_data(config, spec, device, stages)  # before the search: what cannot be trained is refused at once
    folder.begin(data.spec)
    try:
        search = search_config(config, folder.path, len(data.labels["train"]))
        found, _ = run_in_folder(search, device, precision, if_finished="the search for the depth is finished")
    except Interrupted:
        raise
    except LayerwiseError as error:
        error.args = (f"in the search for the depth (plan.search_fraction): {error}",)
        raise
    depth = found["final"]["block"]
    folder.check_searched(depth)
    chosen = final_config(config, depth)
    if config.progress is ProgressName.auto and distributed.is_main():
        print(f"the search chose depth {depth}; it is now trained on all samples", file=sys.stderr)
    facts = {
        "fraction": config.plan.search_fraction,
        "block": depth,
        "validation": [row["validation"]["top1"] for row in found["blocks"]],
        "seconds": found["seconds"],
        "pflop": found.get("pflop"),  # results of earlier versions lack it
    }
    return train(chosen, spec, folder, device, precision, data, {"search": facts})


def train(
    config: ResolvedConfig,
    spec: DatasetSpec,
    folder: RunFolder,
    device: torch.device,
    precision: Precision,
    data: Dataset | None = None,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Trains all stages that are not finished yet and returns the results.

    Args:
        config: resolved.
        spec: of the data.
        folder: of the run.
        device, precision: what it computes on.
        data: if they are read already.
        facts: that are added to the results.
    """
    agenda = build.build_agenda(config)
    stages = agenda.stages()
    network = build.build_network(config, spec, stages)
    costs = build.build_costs(config, network, spec, precision.dtype)
    display = Display(config.progress is ProgressName.auto, silent=not distributed.is_main())
    decision = from_main(
        lambda: build.build_cache_decision(config, spec, stages, costs, precision, folder.cache, device)
    )
    processes = f"{ranks()} processes ({config.distributed.parallel.value} in parallel), " if ranks() > 1 else ""
    display.note(f"run folder: {folder.path}")
    display.note(f"{processes}{device}, {precision.name}; {decision.message or 'no cache'}")

    source = None if config.plan.reuse is None else Path(config.plan.reuse)
    shared = [] if source is None else from_main(lambda: shared_stages(source, config, folder.path))
    data = data or read_data(config, spec, device, stages)
    folder.begin(data.spec)
    checkpoints = Checkpoints(folder.checkpoints, display.warn)
    if source is not None and (reused := from_main(lambda: take_over(source, shared, checkpoints))):
        display.note(f"{reused} of {len(stages)} stages are taken from {source}")

    loggers = build_loggers(config, folder.path, display.note, display.warn) if distributed.is_main() else {}

    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # shapes are fixed
    torch.backends.cudnn.allow_tf32 = False  # fp32 means float32
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if ranks() > 1 and config.distributed.sync_batchnorm and config.distributed.parallel is Parallel.data:
        synchronised(network, device)
    run = Run(
        config=config,
        agenda=agenda,
        network=network,
        data=data,
        precision=precision,
        checkpoints=checkpoints,
        metrics=Metrics(folder.path / METRICS),
        loggers=Loggers(loggers, display.warn),
        display=display,
        stop=StopRequest(),
    )
    work = workload(config, spec, network, costs, decision.views, data)
    finished = restore_finished(run)
    facts = {**run_facts(decision, precision, device), **facts}
    recorder = Recorder(run, folder.path, finished, costs, work, facts)
    try:
        recorder.begin()
        with run.stop:
            try:
                with noticing_lost_processes():
                    train_stages(run, finished, decision, folder.cache, recorder.stage)
            except LayerwiseError as error:
                recorder.stopped(error)  # launchers repeat their signals, and it is to be recorded all the same
                raise
        return recorder.completed()
    finally:
        recorder.close()


def read_data(config: ResolvedConfig, spec: DatasetSpec, device: torch.device, stages: Sequence[Stage]) -> Dataset:
    """This process's samples; an error that any process meets is one of all.

    Raises:
        LayerwiseError: the data cannot be read or trained on, or are not the same on all machines.
    """

    def read() -> Dataset:
        data = build.build_data(config, spec, device)
        build.check_data_suffice(config, data, stages)
        return data

    data = one_per_machine_first(read)
    numbers = [len(labels) for labels in data.labels.values()] + [int(labels.sum()) for labels in data.labels.values()]
    most = distributed.AllReduceMax(*numbers, *(-number for number in numbers)).wait()
    if most != [*numbers, *(-number for number in numbers)]:
        raise LayerwiseError(
            f"dataset={spec.name}: the processes have found different data. "
            "Give all machines the same files in dataset.root."
        ).shared()
    return data


def train_stages(
    run: Run, finished: list[FinishedStage], decision: CacheDecision, cache: Path, after_stage: Callable[[], object]
) -> None:
    """Trains what is not finished, stage after stage, and appends it to `finished`."""
    blocks, source = run.network.blocks, None
    while len(finished) < len(stages := run.agenda.stages([outcome.rows for outcome in finished])):
        started, start = time.perf_counter(), stages[len(finished)].start
        if source is not None and source.depth > start:  # fine-tuning begins at the images again
            source.close()
            source = None
        if source is None:
            prefix = list(blocks[:start])
            source = build.build_source(run.config, run.data, run.precision, decision, cache, prefix, run.stop)
        elif source.depth < start:
            source.advance(list(blocks[source.depth : start]))
        finished.append(run_stage(run, stages, source, finished, advance_seconds=time.perf_counter() - started))
        after_stage()
    if source is not None:
        source.close()


def all_blocks_readable(folder: RunFolder) -> bool:
    """Whether the checkpoints of a finished run are still whole; if not, it is repaired by running on."""
    try:
        agenda = build.build_agenda(run_config(folder.path))
    except LayerwiseError:  # its search is damaged
        return False
    trees, _ = Checkpoints(folder.checkpoints, warn=print).read_finished(agenda)
    return len(trees) == len(agenda.stages(rows_of(trees)))


def restore_finished(run: Run) -> list[FinishedStage]:
    """Loads the finished stages of an earlier process into the network."""
    finished = [FinishedStage(**tree) for tree in run.checkpoints.load_finished(run.agenda)]
    stages = run.agenda.stages([outcome.rows for outcome in finished])
    restore(run.network, stages, finished)
    for stage, outcome in zip(stages, finished, strict=False):
        run.display.show_rows(stage.title, outcome.rows)
    return finished
