"""The overhead of a step: a network so small that computing takes almost no time."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from layerwise.commands.in_process import run_here
from layerwise.runs.run_files import CONFIG, RESULTS

POINTS, BATCH, WIDTH, CLASSES = 500, 32, 10, 3
"""Of conf/experiment/tutorial_blobs_supervised.yaml and its data."""

STEPS_PER_EPOCH = -(-POINTS // BATCH)


def measure(device: torch.device, rounds: int = 20, words: Sequence[str] = ()) -> dict[str, Any]:
    """Steps/s of real runs of experiment=tutorial_blobs_supervised, and of a bare loop over the same trained part.

    A turn is a whole run into an empty folder, of three blocks because speeds drift, and then as many bare stages.
    The stages of the run count by their seconds of training in results.json; the first is left out, its block is
    smaller. What these seconds do not hold, such as checkpoints, metrics.jsonl and evaluations, is in the figure for
    the whole run, from its begin to its end.

    Args:
        rounds: turns that count; one before them does not.
    """
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "whole_run": []}
    for turn in range(rounds + 1):
        stages, run_seconds = stages_of_a_run(device, words)
        bare_seconds = [bare_stage(epochs, device) for epochs, _ in stages[1:]]
        if turn > 0:
            steps = [STEPS_PER_EPOCH * epochs for epochs, _ in stages]
            rates["ours"] += [n / seconds for n, (_, seconds) in zip(steps[1:], stages[1:], strict=True)]
            rates["bare"] += [n / seconds for n, seconds in zip(steps[1:], bare_seconds, strict=True)]
            rates["whole_run"].append(sum(steps) / run_seconds)
    figures = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {"ratio": figures["ours"] / figures["bare"], "whole_run_ratio": figures["whole_run"] / figures["bare"]}
    return figures | ratios


def stages_of_a_run(device: torch.device, words: Sequence[str]) -> tuple[list[tuple[int, float]], float]:
    """Epochs and seconds of training of each stage of a run, and seconds from its begin to its end."""
    with tempfile.TemporaryDirectory() as place:
        places = ["fresh=true", "progress=off", f"device={device}", f"output_dir={place}"]
        results, folder = run_here(["experiment=tutorial_blobs_supervised", "J=3", *words, *places])
        # the first and the last file that a run writes
        seconds = (folder / RESULTS).stat().st_mtime - (folder / CONFIG).stat().st_mtime
    rows = zip(results["stages"], results["blocks"], strict=True)  # of this plan: a stage per block
    return [(stage["epochs"], row["seconds"]["train"]) for stage, row in rows], seconds


def bare_stage(epochs: int, device: torch.device) -> float:
    """Seconds of a textbook loop over the part that a stage trains, on ready features."""
    X = torch.randn(POINTS, WIDTH, device=device)
    Y = torch.randint(0, CLASSES, (POINTS,), device=device)
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    started = time.perf_counter()
    for _ in range(epochs):
        for chosen in torch.randperm(POINTS, device=device).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(X[chosen]), Y[chosen]).backward()
            optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
