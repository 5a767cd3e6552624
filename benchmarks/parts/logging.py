"""The cost of logging to W&B and TensorBoard."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from layerwise.commands.in_process import run_here
from layerwise.reporting.loggers.base import Loggers

LOGGED = ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline"]


def measure(device: torch.device, rounds: int = 3, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Seconds of training of experiment=demo_digits with both loggers and with none, in runs that take turns.

    The calls of the loggers in the training's process are timed apart: what begin and end cost once, and each epoch
    and stage. W&B's own process works beside the training and slows it where there is no core to spare; that is in
    the ratio.

    On a machine that others use, too, the CPU seconds of the training's process for the whole run say more.

    Args:
        rounds: turns that count; one before them does not.
    """
    seconds: dict[str, list[float]] = {"none": [], "both": []}
    cpu: dict[str, list[float]] = {"none": [], "both": []}
    calls: dict[str, list[float]] = {"begin": [], "epoch": [], "stage": [], "end": []}
    for turn in range(rounds + 1):
        for name, chosen in (("none", ["logger=none"]), ("both", LOGGED)):
            with tempfile.TemporaryDirectory() as place, timed_calls() as took:
                before = time.process_time()
                places = ["progress=off", f"device={device}", f"output_dir={place}"]
                results, _ = run_here(["experiment=demo_digits", *chosen, *words, *places])
                spent = time.process_time() - before
            if turn > 0:
                cpu[name].append(spent)
                seconds[name].append(sum(row["seconds"]["train"] for row in results["blocks"]))
            if turn > 0 and name == "both":
                for call, values in took.items():
                    calls[call] += values
    figures: dict[str, Any] = {name: statistics.median(values) for name, values in seconds.items()}
    figures |= {f"{name}_cpu": statistics.median(values) for name, values in cpu.items()}
    figures |= {f"{call}_seconds": statistics.median(values) for call, values in calls.items()}
    training = (
        len(calls["epoch"]) * figures["epoch_seconds"] + len(calls["stage"]) * figures["stage_seconds"]
    ) / rounds
    figures |= {"ratio": figures["both"] / figures["none"], "share": training / figures["none"]}
    print(f"training {figures['none']:.2f} s, with W&B (offline) and TensorBoard {figures['both']:.2f} s: ", end="")
    print(f"{figures['ratio']:.3f}×; in its own process {100 * figures['share']:.2f} % of it (an epoch ", end="")
    print(
        f"{1e3 * figures['epoch_seconds']:.2f} ms, a stage {1e3 * figures['stage_seconds']:.2f} ms), and once ", end=""
    )
    print(f"{figures['begin_seconds']:.2f} s at the begin and {figures['end_seconds']:.2f} s at the end")
    print(f"CPU seconds of the run's process: {figures['none_cpu']:.2f}, with both {figures['both_cpu']:.2f}")
    return figures


@contextmanager
def timed_calls() -> Iterator[dict[str, list[float]]]:
    """The seconds of each call of the loggers while the context is open, by its name."""
    took: dict[str, list[float]] = {"begin": [], "epoch": [], "stage": [], "end": []}
    plain = {name: getattr(Loggers, name) for name in took}

    def timed(name: str) -> Any:
        def call(self: Loggers, *arguments: Any) -> None:
            if not self._loggers:
                return
            started = time.perf_counter()
            plain[name](self, *arguments)
            took[name].append(time.perf_counter() - started)

        return call

    for name in took:
        setattr(Loggers, name, timed(name))
    try:
        yield took
    finally:
        for name, method in plain.items():
            setattr(Loggers, name, method)
