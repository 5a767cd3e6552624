"""The time of whole runs over the number of blocks, with a cache and without."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.steps import in_turns
from layerwise.commands.in_process import run_here

SLOPE_RUN = ("k=1", "model.width=64", "model.downsample=[]", "dataset=cifar10", "dataset.augment=false", "epochs=4")
"""A head of next to no cost, so that most of a step is the block; without augmentation one view is an exact cache."""


def measure(
    device: torch.device,
    depths: Sequence[int] = (1, 2, 4, 8),
    rounds: int = 2,
    words: Sequence[str] = ("dataset.limit=640", "dataset.limit_test=128"),
) -> dict[str, Any]:
    """Seconds of real runs of J = 1, 2, 4, 8 equal blocks, k = 1, with an exact cache and without; turn by turn.

    `J = …` has the stages' seconds, with the filling of caches and the scoring; `whole_…` those from begin to end of
    a run within a process. `exponent` is the slope of log seconds over the log of the number of blocks, 1 is linear and
    2 quadratic: of the blocks from the second on, which are equal (the first reads three channels), and of whole runs
    over J. `stage j` is of the deepest run.

    Args:
        rounds: turns that count; one before them does not.
    """
    ways = {"cached": ["cache=memory", "cache.views=1"], "recomputed": ["cache=none"]}
    runs = {
        (way, J): partial(stage_seconds, [*SLOPE_RUN, f"J={J}", *cache, *words], device)
        for J in depths
        for way, cache in ways.items()
    }
    turns = in_turns(runs, rounds)

    def medians(figure: Callable[[tuple[list[float], float]], float]) -> dict[tuple[str, int], float]:
        return {place: statistics.median(map(figure, found)) for place, found in turns.items()}

    stages, equal = medians(lambda run: sum(run[0])), medians(lambda run: sum(run[0][1:]))
    whole, last, several = medians(lambda run: run[1]), depths[-1], [J for J in depths if J > 1]
    figures: dict[str, Any] = {}
    for J in depths:
        figures[f"J = {J}"] = {way: stages[way, J] for way in ways} | {f"whole_{way}": whole[way, J] for way in ways}
    figures["exponent"] = {
        **{way: exponent([J - 1 for J in several], [equal[way, J] for J in several]) for way in ways},
        **{f"whole_{way}": exponent(depths, [whole[way, J] for J in depths]) for way in ways},
    }
    for j in range(last):
        figures[f"stage {j + 1}"] = {way: statistics.median(run[0][j] for run in turns[way, last]) for way in ways}
    return figures


def stage_seconds(words: list[str], device: torch.device) -> tuple[list[float], float]:
    """Seconds of each stage of a run into an empty folder, and of all from its begin to its end."""
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        results, _ = run_here([*words, "progress=off", f"device={device}", f"output_dir={place}"])
        return [sum(row["seconds"].values()) for row in results["blocks"]], time.perf_counter() - started


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """p of the power law y = a·x^p that fits best (least squares of the logarithms)."""
    slope: float = statistics.linear_regression([math.log(x) for x in xs], [math.log(y) for y in ys]).slope
    return slope
