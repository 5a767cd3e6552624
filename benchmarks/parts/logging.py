"""The cost of logging to W&B and TensorBoard."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.steps import in_turns
from layerwise.commands.in_process import run_here
from layerwise.reporting.loggers.base import Loggers

WAYS = {"none": ["logger=none"], "both": ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline"]}
CALLS = ("begin", "epoch", "stage", "end")


def measure(device: torch.device, rounds: int = 3, words: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds of training of experiment=demo_digits with both loggers and with none, in runs that take turns.

    `share` is that of the calls of the loggers at each epoch and stage in the training's process, `begin` and `end` the
    seconds that these cost once. W&B's own process works beside the training and slows it where there is no core to
    spare; that is in the ratio.
    """
    runs = {name: partial(run_logged, [*chosen, *words], device) for name, chosen in WAYS.items()}
    turns = in_turns(runs, rounds)
    figures = {name: statistics.median(seconds for seconds, _ in turns[name]) for name in WAYS}
    took = {call: statistics.median(calls[call] for _, calls in turns["both"]) for call in CALLS}
    shares = {"ratio": figures["both"] / figures["none"], "share": (took["epoch"] + took["stage"]) / figures["none"]}
    return figures | shares | {call: took[call] for call in ("begin", "end")}


def run_logged(words: Sequence[str], device: torch.device) -> tuple[float, dict[str, float]]:
    """Seconds of training of a run into an empty folder, and of all calls of its loggers, by their name."""
    with tempfile.TemporaryDirectory() as place, timed_calls() as took:
        places = ["progress=off", f"device={device}", f"output_dir={place}"]
        results, _ = run_here(["experiment=demo_digits", *words, *places])
    return sum(row["seconds"]["train"] for row in results["blocks"]), took


@contextmanager
def timed_calls() -> Iterator[dict[str, float]]:
    """The seconds of the loggers' calls while the context is open, by name."""
    took = dict.fromkeys(CALLS, 0.0)

    def timed(name: str, plain: Any) -> Any:
        def call(self: Loggers, *arguments: Any) -> None:
            started = time.perf_counter()
            plain(self, *arguments)
            took[name] += time.perf_counter() - started

        return call

    with ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(patch.object(Loggers, name, timed(name, getattr(Loggers, name))))
        yield took
