"""The sbatch files and `hydra/launcher=slurm` on a real, private SLURM with two emulated nodes: `pytest -m slurm`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import ROOT, words
from helpers.run_folders import metrics_of, numbers, results_of

pytestmark = pytest.mark.slurm

SECONDS = 600
"""Longer than any job here takes: what waits for so long has failed."""

LONG = {"epochs": 150}
"""A run of several seconds."""

LONG_FOR_TWO = {"epochs": 40}
"""A run of several seconds for two processes, which talk at each step."""

SACCT = """#!/usr/bin/env bash
# A stand-in: without accounting the real sacct knows nothing, and submitit waits for ever for a job that was killed.
# It answers submitit's one question, the state of some jobs, from squeue.
ids=()
while [ $# -gt 0 ]; do case "$1" in -j) ids+=("$2"); shift;; esac; shift; done
echo "JobID|State|NodeList"
squeue --array --states=all --noheader --jobs="$(IFS=,; echo "${ids[*]}")" --format='%i|%T|%N'
"""


@dataclass
class Cluster:
    """A running SLURM.

    Attributes:
        environment: of the commands that talk to it, and so of the jobs.
    """

    environment: dict[str, str]

    def call(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in words]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def submit(self, log: Path, *words: object, **environment: object) -> str:
        """`sbatch` with some words; the job's number."""
        export = ",".join(["ALL", *(f"{name}={value}" for name, value in environment.items())])
        return self.call("sbatch", "--parsable", f"--output={log}", f"--export={export}", *words).stdout.strip()

    def states(self, job: str) -> list[str]:
        """The job's state, or that of each task of its array."""
        return self.call(
            "squeue", "--array", "--states=all", "--noheader", f"--jobs={job}", "--format=%T"
        ).stdout.split()

    def wait(self, job: str) -> list[str]:
        """The states that the job's tasks end in."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
        until(lambda: set(self.states(job)) <= ended, f"the end of job {job}")
        return self.states(job)

    def restarts(self, job: str) -> int:
        shown = self.call("scontrol", "show", "job", job).stdout
        return int(shown.split("Restarts=")[1].split()[0])


@pytest.fixture(scope="session")
def two_cores() -> Iterator[None]:
    """On so few cores each process computes with one thread, alone or with another: to the bit the same everywhere."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:2])
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="session")
def cluster(two_cores: None) -> Iterator[Cluster]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))):
        pytest.skip("needs root, and apt-get install -y --no-install-recommends slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="slurm-"))
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    size = {"NODES": "2", "CPUS": "4", "GPUS": "2"}
    try:
        started = subprocess.run(
            [ROOT / "scripts" / "start_slurm.sh", folder], env=environment | size, capture_output=True, text=True
        )
        assert started.returncode == 0, started.stderr
        name, _, conf = started.stdout.removeprefix("export ").strip().partition("=")
        yield Cluster(environment | {name: conf})
    finally:
        subprocess.run([ROOT / "scripts" / "stop_slurm.sh", folder], check=False)
        shutil.rmtree(folder)


@pytest.fixture
def with_sacct(cluster: Cluster, tmp_path: Path) -> Cluster:
    """The cluster for programs that ask sacct: a stand-in answers."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sacct").write_text(SACCT)
    (tmp_path / "bin" / "sacct").chmod(0o755)
    return Cluster(cluster.environment | {"PATH": f"{tmp_path / 'bin'}:{cluster.environment['PATH']}"})


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, f"waited {SECONDS} s for {what}"
        time.sleep(0.1)


def trains(folder: Path) -> bool:
    """Whether a run has trained epochs."""
    metrics = folder / "metrics.jsonl"
    return metrics.exists() and metrics.read_text().count("\n") > 2


def figures_outside_slurm(folder: Path, *launcher: str, epochs: int) -> list[dict[str, Any]]:
    """Figures of the long run in one go."""
    line = [sys.executable, *launcher, ROOT / "train.py", *words(folder, name="run", epochs=epochs)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return numbers(results_of(folder / "run"))


@pytest.fixture(scope="module")
def uninterrupted(two_cores, tmp_path_factory) -> list[dict[str, Any]]:
    """By one process."""
    return figures_outside_slurm(tmp_path_factory.mktemp("one"), **LONG)


@pytest.fixture(scope="module")
def uninterrupted_by_two(two_cores, tmp_path_factory) -> list[dict[str, Any]]:
    """By two processes."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    return figures_outside_slurm(tmp_path_factory.mktemp("two"), *torchrun, **LONG_FOR_TWO)


PLACES = {
    "one process": ((), LONG, "uninterrupted"),
    "a process a GPU": (("--nodes=1", "--gpus-per-node=2"), LONG_FOR_TWO, "uninterrupted_by_two"),
    "two nodes": (("--nodes=2",), LONG_FOR_TWO, "uninterrupted_by_two"),
}


@pytest.mark.parametrize(("place", "length", "reference"), PLACES.values(), ids=list(PLACES))
def test_a_signal_before_the_end_saves_requeues_and_goes_on(cluster, tmp_path, request, place, length, reference):
    log, folder = tmp_path / "log", tmp_path / "out" / "a run"
    job = cluster.submit(log, *place, "slurm/train.sbatch", *words(tmp_path / "out", name="a run", **length))
    until(lambda: trains(folder), "the training")
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    assert cluster.wait(job) == ["COMPLETED"]
    assert cluster.restarts(job) == 1
    text = log.read_text()
    assert text.count("2 processes (data in parallel)") == (2 if place else 0)
    assert text.count("stopped by SIGTERM") == 1
    assert text.index("stopped by SIGTERM") < text.rindex(f"run folder: {folder}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a run"]
    assert numbers(results_of(folder)) == request.getfixturevalue(reference)


@pytest.mark.parametrize("where", ["one process", "two nodes"])
def test_a_cancelled_job_leaves_a_folder_that_the_same_command_goes_on_in(cluster, tmp_path, request, where):
    (place, length, reference), folder = PLACES[where], tmp_path / "out" / "run"
    command = (*place, "slurm/train.sbatch", *words(tmp_path / "out", name="run", **length))
    job = cluster.submit(tmp_path / "log", *command)
    until(lambda: trains(folder), "the training")
    cluster.call("scancel", job)
    assert cluster.wait(job) == ["CANCELLED"]
    until(lambda: results_of(folder)["status"] == "interrupted", "the checkpoint")
    epochs = len(metrics_of(folder))
    assert cluster.wait(cluster.submit(tmp_path / "log", *command)) == ["COMPLETED"]
    assert numbers(results_of(folder)) == request.getfixturevalue(reference)
    assert len(metrics_of(folder)) > epochs


def test_a_job_ends_as_its_training_does(cluster, tmp_path):
    job = cluster.submit(tmp_path / "log", "slurm/train.sbatch", *words(tmp_path / "out", k=0))
    assert cluster.wait(job) == ["FAILED"]
    assert "ExitCode=2:0" in cluster.call("scontrol", "show", "job", job).stdout
    assert "error: k=0: must be 1 or more" in (tmp_path / "log").read_text()


def test_an_array_trains_its_lines_names_the_bad_one_and_repeats_nothing(cluster, tmp_path):
    sweep, out = tmp_path / "sweep.txt", tmp_path / "out"
    lines = ["name='the first'", "k=banana", "name=third seed=1"]
    sweep.write_text("# three runs\n" + "\n".join(lines))
    count = cluster.call(sys.executable, "scripts/sweep.py", sweep, "--count").stdout
    command = (f"--array=0-{int(count) - 1}", "slurm/sweep.sbatch", sweep, *words(out, k=None))
    assert sorted(cluster.wait(cluster.submit(tmp_path / "first-%a", *command))) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert f"{sweep}:3: failed with exit code 2: k=banana" in (tmp_path / "first-1").read_text()
    found = [out / "the first" / "results.json", out / "third" / "results.json"]
    assert [json.loads(path.read_text())["status"] for path in found] == ["completed", "completed"]
    written = [path.stat().st_mtime_ns for path in found]

    assert sorted(cluster.wait(cluster.submit(tmp_path / "again-%a", *command))) == ["COMPLETED", "COMPLETED", "FAILED"]
    for task in (0, 2):
        assert "this run is finished" in (tmp_path / f"again-{task}").read_text()
    assert [path.stat().st_mtime_ns for path in found] == written


def test_a_job_whose_node_fails_goes_on_on_another(cluster, tmp_path, uninterrupted):
    folder = tmp_path / "out" / "run"
    job = cluster.submit(tmp_path / "log", "slurm/train.sbatch", *words(tmp_path / "out", name="run", **LONG))
    until(lambda: trains(folder), "the training")
    node = cluster.call("squeue", "--noheader", f"--jobs={job}", "--format=%N").stdout.strip()
    # Drained, it takes no job when it comes back by itself: the old training may still be ending there, and SLURM
    # holds a job for ever that it finds on its node already
    for state in ("drain", "down"):
        cluster.call("scontrol", "update", f"nodename={node}", f"state={state}", "reason=test")
    try:
        assert cluster.wait(job) == ["COMPLETED"]
    finally:
        cluster.call("scontrol", "update", f"nodename={node}", "state=resume")
    assert cluster.restarts(job) == 1
    assert numbers(results_of(folder)) == uninterrupted


def test_a_line_of_an_array_is_trained_by_two_processes(cluster, tmp_path, uninterrupted_by_two):
    sweep = tmp_path / "sweep.txt"
    sweep.write_text("k=banana\nname='a run' k=2\n")
    command = (
        "--array=0-1",
        "--export=ALL,PROCESSES=2",
        "slurm/sweep.sbatch",
        sweep,
        *words(tmp_path / "out", k=None, **LONG_FOR_TWO),
    )
    assert sorted(cluster.wait(cluster.submit(tmp_path / "log-%a", *command))) == ["COMPLETED", "FAILED"]
    assert f"{sweep}:1: failed with exit code 2: k=banana" in (tmp_path / "log-0").read_text()
    assert numbers(results_of(tmp_path / "out" / "a run")) == uninterrupted_by_two


def multirun(cluster: Cluster, out: Path, *more: str, **overrides: Any) -> subprocess.CompletedProcess[str]:
    """A multirun of tiny runs as jobs of the cluster."""
    line = [sys.executable, "train.py", "--multirun", "hydra/launcher=slurm", *words(out, **overrides)]
    return cluster.call(*line, "slurm.cpus=1", *more, check=False)


def test_a_multirun_is_an_array_of_jobs(with_sacct, tmp_path):
    out = tmp_path / "out"
    done = multirun(with_sacct, out, "slurm.name=mine", "slurm.minutes=7", "slurm.memory_gb=3", k="2,3")
    assert done.returncode == 0, done.stderr
    (script,) = (out / ".submitit").glob("*/*_submission.sh")
    options = script.read_text()
    for option in (
        "array=0-1%2",
        "job-name=mine",
        "time=7",
        "mem=3GB",
        "cpus-per-task=1",
        "ntasks-per-node=1",
        "requeue",
    ):
        assert f"#SBATCH --{option}\n" in options
    runs = [results_of(path.parent) for path in out.glob("*/results.json")]
    assert sorted((run["k"], run["status"]) for run in runs) == [(2, "completed"), (3, "completed")]


def signalled(cluster: Cluster, out: Path, signal: str, *more: str, **overrides: Any) -> tuple[int, str, Path]:
    """A multirun of one job that gets a signal while it trains: its exit code, what it says, and the job's log."""
    line = ["train.py", "--multirun", "hydra/launcher=slurm", *words(out, name="run", **overrides), "slurm.cpus=1"]
    driver = subprocess.Popen(
        [sys.executable, *line, *more], cwd=ROOT, env=cluster.environment, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: trains(out / "run"), "the training")
        (log,) = (out / ".submitit").glob("*/*_0_log.err")
        cluster.call("scancel", f"--signal={signal}", log.name.split("_")[0])
        _, said = driver.communicate(timeout=SECONDS)
    finally:
        driver.kill()
    return driver.returncode, said, log


@pytest.mark.parametrize(
    ("gpus", "length", "reference"), [(0, LONG, "uninterrupted"), (2, LONG_FOR_TWO, "uninterrupted_by_two")]
)
def test_a_job_of_a_multirun_saves_requeues_and_goes_on(with_sacct, tmp_path, request, gpus, length, reference):
    code, said, log = signalled(with_sacct, tmp_path / "out", "USR2", f"slurm.gpus={gpus}", **length)
    assert code == 0, said
    assert with_sacct.restarts(log.name.split("_")[0]) == 1
    said = log.read_text()
    assert " DUE TO JOB REQUEUE " in said
    assert said.count("block 1/2  epoch 1/") == 1  # it went on where it was
    assert numbers(results_of(tmp_path / "out" / "run")) == request.getfixturevalue(reference)


def test_a_job_that_is_killed_ends_the_multirun_with_a_message(with_sacct, tmp_path):
    code, said, _ = signalled(with_sacct, tmp_path / "out", "KILL", epochs=2000)
    assert code == 2
    assert "error: a SLURM job failed: Job " in said
    assert "Traceback" not in said


def test_what_the_cluster_refuses_is_said_in_a_line(with_sacct, tmp_path):
    refused = multirun(with_sacct, tmp_path / "out", "slurm.gpus=64")
    assert refused.returncode == 2
    assert "error: a SLURM job failed: sbatch: error: Batch job submission failed: " in refused.stderr
    assert "Traceback" not in refused.stderr
