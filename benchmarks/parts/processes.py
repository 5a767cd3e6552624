"""Two processes, each pinned to a core, against one process on one core."""

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

from benchmarks.runs import TRAIN, has_cifar10

RUN = ("k=3", "J=2", "epochs=1", "model.width=32", "model.head_width=64", "dataset.limit_test=512", "progress=off")
WAYS: dict[str, tuple[str, ...]] = {
    "data": (),
    "blocks": ("plan=simultaneous", "distributed.parallel=blocks", "J=4", "plan.epochs=1"),
}
"""What the two processes have a part of, and the run that shows it."""


def measure(rounds: int = 2, words: Sequence[str] = ("dataset.limit=3200",)) -> dict[str, Any]:
    """Throughput of real runs on CIFAR-10 by two processes against one, of the same global batch.

    They take turns; a figure is the median of its rounds. `efficiency` is the ratio by the number of processes, and
    `ceiling` what this machine gives two runs at once that have nothing to do with each other, against one.
    """
    if not has_cifar10():
        print("processes: not measured, the real CIFAR-10 is not under $LAYERWISE_DATA")
        return {}
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        print("processes: not measured, it needs two cores")
        return {}
    figures: dict[str, Any] = {}
    for way, own in WAYS.items():
        command = [*RUN, *own, *words]
        rates: dict[str, list[float]] = {"one": [], "two": [], "separate": []}
        for _ in range(rounds):
            (alone,), (shared,) = run_pinned([cores[:1]], command), run_pinned([cores], command)
            separate = run_pinned([[core] for core in cores], command)
            rates["one"].append(rate(alone))
            rates["two"].append(rate(shared))
            rates["separate"].append(sum(rate(rows) for rows in separate))
        one, two, both = (statistics.median(values) for values in rates.values())
        figures[way] = {"one": one, "two": two, "ratio": two / one, "efficiency": two / one / 2, "ceiling": both / one}
        if "processes" in shared[-1]:
            figures[way]["utilisation"] = [process["utilisation"] for process in shared[-1]["processes"]]
    return figures


def rate(rows: Sequence[dict[str, Any]]) -> float:
    """Images/s over all rows; those of blocks that train at once have one and the same."""
    return statistics.harmonic_mean([row["images_per_second"] for row in rows])


def run_pinned(runs: Sequence[Sequence[int]], words: Sequence[str]) -> list[list[dict[str, Any]]]:
    """The rows of runs that go on at once, each into an empty folder, by a process on each of its cores."""
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(number) for number in range(len(runs))]
        started = [start(cores, folder, words) for cores, folder in zip(runs, folders, strict=True)]
        codes = [process.wait() for processes in started for process in processes]
        if any(codes):
            raise SystemExit("error: a run of the part `processes` failed; its message stands above.")
        results = [next(folder.glob("*/results.json")) for folder in folders]
        return [json.loads(path.read_text())["blocks"] for path in results]


def start(cores: Sequence[int], folder: Path, words: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    """The processes of one run, one on each of some cores, as a launcher would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    n = str(len(cores))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n}
    return [
        subprocess.Popen(
            [sys.executable, str(TRAIN), *words, f"output_dir={folder}"],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        )
        for rank, core in enumerate(cores)
    ]
