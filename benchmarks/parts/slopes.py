"""The time of whole runs over the number of blocks, with a cache and without."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch

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
    stages: dict[tuple[str, int], list[list[float]]] = {(way, J): [] for way in ways for J in depths}
    whole: dict[tuple[str, int], list[float]] = {(way, J): [] for way in ways for J in depths}
    for turn in range(rounds + 1):
        for J in depths:
            for way, cache in ways.items():
                seconds, in_all = stage_seconds([*SLOPE_RUN, f"J={J}", *cache, *words], device)
                if turn > 0:
                    stages[way, J].append(seconds)
                    whole[way, J].append(in_all)
    total = {place: statistics.median(map(sum, turns)) for place, turns in stages.items()}
    in_all = {place: statistics.median(turns) for place, turns in whole.items()}
    figures: dict[str, Any] = {}
    for J in depths:
        figures[f"J = {J}"] = {way: total[way, J] for way in ways} | {f"whole_{way}": in_all[way, J] for way in ways}
    equal = [J for J in depths if J > 1]
    seconds_of_equal = {place: statistics.median(sum(turn[1:]) for turn in turns) for place, turns in stages.items()}
    figures["exponent"] = {
        way: exponent([J - 1 for J in equal], [seconds_of_equal[way, J] for J in equal]) for way in ways
    }
    figures["exponent"] |= {f"whole_{way}": exponent(depths, [in_all[way, J] for J in depths]) for way in ways}
    for j in range(depths[-1]):
        figures[f"stage {j + 1}"] = {
            way: statistics.median(turn[j] for turn in stages[way, depths[-1]]) for way in ways
        }
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
