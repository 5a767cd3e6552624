"""A run from begin to end: find its folder, assemble it, train stage after stage, record the results.

    run                 the command: resolves the configuration, chooses device and precision, prints the results
      run_in_folder     opens the run folder, and returns the results of a finished run
        search_and_train    searches for the depth where the plan asks for it, then builds the objects of the run
          train_and_record      trains the stages that are left, and records the run however it ends
            train_stages            the loop over the stages

The search is a run of its own in a folder below: `search_and_train` calls `run_in_folder` once more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from layerwise.config import build
from layerwise.config.effects import without_effect
from layerwise.config.groups.outputs import ProgressName, Summary
from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.core import distributed
from layerwise.core.distributed import from_main, noticing_lost_processes, one_per_machine_first, together
from layerwise.core.errors import LayerwiseError
from layerwise.core.machine import share_cores
from layerwise.core.precision import Precision, choose_device, choose_precision
from layerwise.data.dataset import Dataset, DatasetSpec
from layerwise.experiment.assemble import assemble, configure_torch, read_data
from layerwise.experiment.context import Judge, Run
from layerwise.experiment.recorder import Recorder, has_report, write_report
from layerwise.experiment.search import search_depth
from layerwise.experiment.stage import run_stage
from layerwise.experiment.summary import summarise
from layerwise.features.sources import Source
from layerwise.reporting.loggers.choice import check_loggers, send
from layerwise.reporting.tables import results_table, show
from layerwise.reporting.terminal import Display
from layerwise.runs.code_check import code_of, warn_of_changed_code
from layerwise.runs.data_check import changed_data, is_described, refuse
from layerwise.runs.finished import FinishedStage, lost_lines, restore
from layerwise.runs.folder import RunFolder
from layerwise.runs.loading import all_blocks_readable
from layerwise.runs.metrics import validation_quality
from layerwise.runs.origin import Origin
from layerwise.runs.run_files import REPORT

FINISHED = "this run is finished; fresh=true would start it over"
SEARCHED = "the search for the depth is finished"


def run(composed: DictConfig, judge: Judge | None = None) -> float | None:
    """Does what a composed configuration asks for: prints a summary, or trains a run to its end.

    A finished run prints its results again; an unfinished one continues where it stopped.

    Args:
        judge: may end the run early, between its stages.

    Returns:
        The value that a search over configurations maximises: the validation accuracy in per cent, or R², or None
        without a validation split.

    Raises:
        LayerwiseError: the user can fix the cause.
    """
    given = together(lambda: parse(composed))  # in a multirun the processes have joined already
    config = together(lambda: resolve(given))
    here = distributed.place()
    if here.rank == 0:
        for _, message in without_effect(given, config):
            print(f"warning: {message}", file=sys.stderr)
    if config.summary is not Summary.none:
        if here.rank == 0:
            summarise(config)
        return None
    device = choose_device(config.device, here)
    share_cores(here.local_ranks)
    distributed.join(here, device, config.distributed.timeout)
    precision = choose_precision(config.precision, device)
    with noticing_lost_processes():
        results, folder = run_in_folder(config, device, precision, judge=judge)
    if distributed.is_main():
        show(results_table(results))
        print(f"run folder: {folder}")
        if (folder / REPORT).exists():
            print(f"report: {folder / REPORT}")
    return validation_quality(results)


def run_in_folder(
    config: ResolvedConfig,
    device: torch.device,
    precision: Precision,
    if_finished: str = FINISHED,
    judge: Judge | None = None,
) -> tuple[dict[str, Any], Path]:
    """Trains a resolved configuration in its folder, or finds its results there.

    Args:
        config: the resolved configuration.
        if_finished: message for a run that has nothing left to train.
        judge: see `run`.

    Returns:
        The results and the run folder.
    """
    spec = one_per_machine_first(lambda: build.build_spec(config))  # before a folder is made: it may be refused
    from_main(lambda: check_loggers(config))
    folder = RunFolder(config, spec)
    try:

        def listing() -> str:
            return build.data_listing(config)

        if not config.fresh:
            from_main(lambda: warn_of_changed_code(folder.path, code_of(config)))
        changed = None if config.fresh else from_main(lambda: changed_data(folder.path, spec, listing))
        if changed is not None:  # its files are read all the same, to show its results or to refuse it below
            folder.origin = Origin(folder.origin.config, {})
        results = None if config.fresh else folder.finished_results()
        if results is not None and from_main(lambda: _is_whole(folder)):
            if judge is not None:
                judge(results["blocks"])  # for the trials after this one
            folder.tidy()
            folder.drop_cache()
            if distributed.is_main():
                if changed is not None:
                    print(f"warning: {changed} The results are of the data of then.", file=sys.stderr)
                print(if_finished, file=sys.stderr)
                tell = Display(config.progress is ProgressName.auto)
                if config.report and folder.unwritable is None and not has_report(folder.path):
                    write_report(folder.path, tell.warn)
                send(config, folder.path, tell.note, tell.warn)
        else:
            from_main(lambda: refuse(changed))
            results = search_and_train(config, spec, folder, device, precision, judge)
    finally:
        folder.close()
    return results, folder.path


def _is_whole(folder: RunFolder) -> bool:
    """Whether a finished run has all files that cannot be missing; if not, it is continued, which writes them."""
    described = folder.unwritable is not None or is_described(folder.path)
    return described and all_blocks_readable(folder.path, folder.origin)


def search_and_train(
    config: ResolvedConfig,
    spec: DatasetSpec,
    folder: RunFolder,
    device: torch.device,
    precision: Precision,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Trains the stages that are not finished, after the search for the depth if there is one; returns the results."""
    data: Dataset | None = None
    facts: Mapping[str, Any] = {}
    if config.plan.search_fraction is not None:
        stages = build.build_agenda(config).stages()
        data = read_data(config, spec, device, stages)  # data that cannot be used are refused before the search
        listing = data.listing
        folder.begin(data.spec, lambda: listing or build.data_listing(config))

        def train_search(search: ResolvedConfig) -> tuple[dict[str, Any], Path]:
            return run_in_folder(search, device, precision, SEARCHED)  # recurses once: a search has no search

        config, facts = search_depth(config, folder, len(data.labels["train"]), train_search)
    run = assemble(config, spec, folder, device, precision, data, facts)
    configure_torch()  # now, so that memory freed while reading the data goes back to the kernel
    return train_and_record(run, judge)


def train_and_record(run: Run, judge: Judge | None = None) -> dict[str, Any]:
    """Trains the stages of a run that are not finished, records them, and returns the results."""
    finished = restore_finished(run)
    recorder = Recorder(run, finished)
    try:
        recorder.begin()
        with run.stop:
            try:
                with noticing_lost_processes():  # `run` does it, too; here it is for `stopped`, which records the loss
                    ended = not train_stages(run, finished, recorder.stage, judge)
            except LayerwiseError as error:
                recorder.stopped(error)  # still within run.stop: launchers repeat their signals
                raise
        return recorder.ended_early() if ended else recorder.completed()
    finally:
        recorder.close()


def train_stages(
    run: Run, finished: list[FinishedStage], after_stage: Callable[[], object], judge: Judge | None = None
) -> bool:
    """Trains what is not finished, stage after stage, and appends it to `finished`.

    Returns:
        False if `judge` ended it before all stages were finished.
    """
    source: Source | None = None
    stages = run.stages_after(finished)
    while len(finished) < len(stages) and goes_on(finished, judge):
        started = time.perf_counter()
        source = source_at(run, stages[len(finished)].start, source)
        finished.append(run_stage(run, stages, source, finished, advance_seconds=time.perf_counter() - started))
        after_stage()
        stages = run.stages_after(finished)  # the results of a stage decide whether the growth ends with it
    if source is not None:
        source.close()  # but not after an error: a cache on the disk serves the run that continues
    run.folder.drop_cache()  # also of a process that was killed behind its last stage
    return len(finished) == len(stages)


def goes_on(finished: Sequence[FinishedStage], judge: Judge | None) -> bool:
    """Whether to train the next stage; the main process asks."""
    rows = [row for outcome in finished for row in outcome.rows]
    return judge is None or from_main(lambda: judge(rows))


def source_at(run: Run, depth: int, source: Source | None) -> Source:
    """Returns a source of the features x_depth: the given one advanced to this depth, or a new one."""
    blocks = list(run.network.blocks[:depth])
    if source is not None and source.depth > depth:  # fine-tuning begins at the images again
        source.close()
        source = None
    if source is None:
        return build.build_source(run.config, run.data, run.precision, run.cache, run.folder.cache, blocks, run.stop)
    if source.depth < depth:
        source.advance(blocks[source.depth :])
    return source


def restore_finished(run: Run) -> list[FinishedStage]:
    """Loads the stages that an earlier process has finished into the network, and shows their rows."""
    finished = [FinishedStage(**tree) for tree in run.checkpoints.load_finished(run.agenda)]
    stages = run.stages_after(finished)
    restore(run.network, stages, finished, partial(build.build_last_head, run.config, run.network, run.data.spec))
    for stage, outcome in zip(stages, finished, strict=False):
        run.display.show_rows(stage.title, outcome.rows)
    if lost := from_main(lambda: lost_lines(run.folder.path, run.folder.origin, stages, finished)):
        run.display.warn(lost)
    return finished
