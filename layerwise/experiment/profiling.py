"""`profile=true`: what a few steps of each stage spend their time on, as a trace and a table in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from layerwise.core.distributed import is_main
from layerwise.core.errors import writing
from layerwise.core.files import write_atomically
from layerwise.experiment.context import Run
from layerwise.training.plan import Stage
from layerwise.training.trainer import StageTrainer

UNSEEN, SEEN = 4, 3
"""Steps before the profiler starts, in which libraries choose their kernels and compile, and steps that it records."""

ROWS = 50
"""Operations in the table, the slowest first."""


@contextmanager
def profiled(run: Run, stage: Stage, trainer: StageTrainer) -> Iterator[Callable[[], None]]:
    """Context of a stage's training; gives what is to be called after each step. Only the main process records.

    A stage that has fewer steps left is recorded from the second of them on; a single one is not.
    """
    left = trainer.recipe.steps - trainer.steps_done
    if not (run.config.profile and is_main() and left > 1):
        yield lambda: None
        return
    active = min(SEEN, left - 1)
    wait = min(UNSEEN, left - 1 - active)
    recorded = wait + 1 + active
    on_gpu = trainer.device.type == "cuda"
    profiler = profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])],
        schedule=schedule(wait=wait, warmup=1, active=active, repeat=1),
        on_trace_ready=lambda seen: write(seen, run.folder.path / "profile", stage, on_gpu),
        acc_events=True,
    )
    steps = 0

    def after_step() -> None:
        nonlocal steps
        steps += 1
        if steps <= recorded:
            profiler.step()
        if steps == recorded:
            profiler.stop()

    profiler.start()
    try:
        yield after_step
    finally:
        if steps < recorded:  # a signal came
            profiler.stop()


def write(seen: torch.profiler.profile, folder: Path, stage: Stage, on_gpu: bool) -> None:
    """Writes `stage_1.trace.json.gz`, for chrome://tracing or Perfetto, and the table `stage_1.txt`."""
    trace = folder / f"stage_{stage.index + 1}.trace.json.gz"
    with writing(trace, "The run is intact."):
        folder.mkdir(exist_ok=True)
        seen.export_chrome_trace(str(trace))
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    table = seen.key_averages().table(sort_by=by, row_limit=ROWS)
    write_atomically(trace.with_name(f"stage_{stage.index + 1}.txt"), table, kept="The run is intact.")
