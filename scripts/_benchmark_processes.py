"""The part `processes` of benchmark.py: two processes, each pinned to a core, against one on one core."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

TRAIN = Path(__file__).resolve().parents[1] / "train.py"

RUN = ("k=3", "J=2", "epochs=1", "model.width=32", "model.head_width=64", "dataset.limit_test=512", "progress=off")
WAYS: dict[str, tuple[str, ...]] = {
    "data": (),
    "blocks": ("plan=simultaneous", "distributed.parallel=blocks", "J=4", "plan.epochs=1"),
}
"""What the two processes have a part of, and the run that shows it."""


def measure_processes(rounds: int = 3, words: Sequence[str] = ("dataset.limit=6400",)) -> dict[str, Any]:
    """Throughput of real runs on CIFAR-10 by two processes against one, of the same global batch.

    They take turns; a figure is the median of its rounds. `efficiency` is the ratio by the number of processes.

    Args:
        rounds: turns.
        words: further arguments of train.py.
    """
    if not (Path(os.environ.get("LAYERWISE_DATA", "data")) / "cifar-10-batches-py").exists():
        print("processes: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        print("processes: not measured, it needs two cores")
        return {}
    figures: dict[str, Any] = {}
    for way, own in WAYS.items():
        rates: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for n, measured in rates.items():
                rows = run_pinned(cores[:n], [*RUN, *own, *words])
                # blocks that train at once share their seconds; those of one after another add up
                measured.append(statistics.harmonic_mean([row["images_per_second"] for row in rows]))
        one, two = (statistics.median(rates[n]) for n in (1, 2))
        figures[way] = {"one": one, "two": two, "ratio": two / one, "efficiency": two / one / 2}
        print(f"{way} in parallel: {two:.0f} images/s by two processes, {one:.0f} by one: ", end="")
        print(f"{two / one:.2f}×, efficiency {two / one / 2:.2f}")
        if "processes" in rows[-1]:
            shares = [process["utilisation"] for process in rows[-1]["processes"]]
            figures[way]["utilisation"] = shares
            print("  busy: " + ", ".join(f"{100 * share:.0f} %" for share in shares))
    return figures


def run_pinned(cores: Sequence[int], words: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a run in an empty folder, by a process on each of some cores."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    n = str(len(cores))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n}
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, str(TRAIN), *words, f"output_dir={folder}"],
                env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
            )
            for rank, core in enumerate(cores)
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit("error: a run of the part `processes` failed; its message stands above.")
        (results,) = Path(folder).glob("*/results.json")
        rows: list[dict[str, Any]] = json.loads(results.read_text())["blocks"]
    return rows
