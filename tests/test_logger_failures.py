"""No failure of W&B, TensorBoard or a logger of one's own reaches a run, and what it lacks is sent later."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import wandb

from helpers.loggers import OFFLINE, assert_history_is_that_of_the_files, at_epoch
from helpers.run_folders import numbers, results_of
from helpers.wandb_files import offline_runs
from layerwise.commands.log import main as log_command
from layerwise.reporting.loggers.base import Beginning, Loggers
from layerwise.reporting.loggers.wandb_run import WandbRun

pytestmark = pytest.mark.usefixtures("no_wandb_account")


def wait_until_open(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while not (folder / "wandb" / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def service() -> psutil.Process:
    """W&B's newest process, once it is there: that of an earlier test may still be ending."""
    deadline = time.monotonic() + 20
    while not (found := [p for p in psutil.Process().children() if "wandb-core" in p.name()]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return max(found, key=psutil.Process.create_time)


def test_a_run_whose_wandb_is_killed_ends_with_the_same_results_and_is_sent_later(train_py, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        at_epoch(patched, 1, lambda _: wait_until_open(tmp_path / "out" / "struck") or service().kill())
        outcome = train_py(name="struck", **OFFLINE)
    assert outcome.code == 0
    assert outcome.err.count("warning:") == 1
    folder = tmp_path / "out" / "struck"
    assert f"`layerwise log {folder} logger=wandb` sends what is missing" in outcome.err
    train_py(name="plain")
    struck, plain = (results_of(tmp_path / "out" / name) for name in ("struck", "plain"))
    assert struck["status"] == "completed"
    assert numbers(struck) == numbers(plain)
    assert log_command([str(folder), "logger=wandb", "logger.wandb.mode=offline"]) == 0
    (run,) = offline_runs(folder)
    assert_history_is_that_of_the_files(run.rows, folder)
    assert run.exit_code == 0


class Notes:
    """A logger that notes what it is told, and fails or hangs at one of its calls."""

    def __init__(self, fails_at: str = "", hangs_at: str = "") -> None:
        self.fails_at, self.hangs_at, self.told = fails_at, hangs_at, []
        self.abandoned = threading.Event()

    def is_complete(self, folder: Path) -> bool:
        return False

    def begin(self, beginning: Beginning) -> None:
        self._note("begin")

    def epoch(self, line: dict[str, Any]) -> None:
        self._note("epoch")

    def stage(self, results: dict[str, Any]) -> None:
        self._note("stage")

    def end(self, results: dict[str, Any] | None) -> None:
        self._note("end")

    def abandon(self) -> None:
        self.abandoned.set()

    def _note(self, call: str) -> None:
        self.told.append(call)
        if call == self.fails_at:
            raise OSError("no space left on the disk")
        if call == self.hangs_at:
            self.abandoned.wait()
            raise OSError("its service is gone")


@pytest.mark.parametrize("call", ["begin", "epoch", "stage", "end"])
@pytest.mark.parametrize("way", ["fails", "hangs"])
def test_a_logger_that_fails_or_hangs_costs_one_warning_and_holds_nothing_up(tmp_path, call, way):
    failing, other, warnings = Notes(**{f"{way}_at": call}), Notes(), []
    loggers = Loggers({"failing": failing, "other": other}, warnings.append, seconds=0.5)
    started = time.monotonic()
    loggers.begin(tmp_path, {}, {})
    for _ in range(2):
        loggers.epoch({})
        loggers.stage({})
    assert time.monotonic() - started < 0.4
    loggers.end({})
    loggers.end(None)
    assert time.monotonic() - started < 5
    assert other.told == ["begin", *2 * ["epoch", "stage"], "end"]
    assert failing.told == other.told[: other.told.index(call) + 1]
    assert failing.abandoned.is_set()
    (warning,) = warnings
    assert f"`layerwise log {tmp_path} logger=failing` sends what is missing" in warning
    assert ("no space left" if way == "fails" else "not finished after") in warning


def wandb_run(notes: list[str], **options: Any) -> WandbRun:
    where = {"project": "p", "entity": None, "group": "g", "job_type": "greedy", "name": "n", "tags": []}
    return WandbRun(**where | {"mode": "offline", "artifacts": False, "note": notes.append} | options)


def line_at(step: int) -> dict[str, Any]:
    where = {"stage": 1, "target": "labels", "epoch": step, "step": step, "block": 1}
    return where | {"loss": 1.0 / step, "top1": 50.0, "lr": 0.1, "seconds": 0.1, "images_per_second": 100.0}


def write_lines(folder: Path, last_step: int) -> None:
    lines = (json.dumps(line_at(step)) + "\n" for step in range(1, last_step + 1))
    (folder / "metrics.jsonl").write_text("".join(lines))


def logged(folder: Path, **options: Any) -> list[str]:
    """Sends what a folder holds to W&B, and returns the warnings."""
    warnings: list[str] = []
    loggers = Loggers({"wandb": wandb_run([], **options)}, warnings.append)
    loggers.begin(folder, {}, {})
    loggers.end(None)
    return warnings


def assert_all_is_sent_later(folder: Path, last_step: int) -> None:
    write_lines(folder, last_step)
    assert logged(folder) == []
    (run,) = [found for found in offline_runs(folder) if found.rows]
    assert run.column("step") == list(range(1, last_step + 1))


def test_a_wandb_that_hangs_is_given_up_and_leaves_nothing_that_python_waits_for(tmp_path):
    warnings: list[str] = []
    loggers = Loggers({"wandb": wandb_run([])}, warnings.append, seconds=1.0)
    loggers.begin(tmp_path, {}, {})
    wait_until_open(tmp_path)
    process = service()
    process.suspend()
    started = time.monotonic()
    for step in range(1, 5000):  # much more than a socket holds
        loggers.epoch(line_at(step))
    assert time.monotonic() - started < 5
    loggers.end(None)
    assert "not finished after 1 s" in warnings[0]
    assert len(warnings) == 1
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    wandb.teardown()  # as Python does when it exits
    assert_all_is_sent_later(tmp_path, 2)


@pytest.mark.parametrize("key", [None, "a" * 40])
def test_without_an_account_or_a_server_there_is_one_warning_and_all_is_sent_later(tmp_path, monkeypatch, key):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    warnings: list[str] = []
    write_lines(tmp_path, 1)
    loggers = Loggers({"wandb": wandb_run([], mode="online", init_seconds=1.0)}, warnings.append)
    loggers.begin(tmp_path, {}, {})
    loggers.epoch(line_at(2))
    loggers.end(None)
    (warning,) = warnings
    assert ("no account is set up" if key is None else "Failed to get resume status") in warning
    assert_all_is_sent_later(tmp_path, 2)


def test_what_a_killed_process_had_logged_is_sent_again_and_stands_there_once(tmp_path):
    killed = wandb_run([])
    killed.begin(
        Beginning(tmp_path, {}, {}, "", [line_at(step) for step in range(1, 300)])
    )  # a part of it is on the disk
    with suppress(ConnectionError, SystemExit):
        killed.abandon()
    assert_all_is_sent_later(tmp_path, 301)


def test_on_a_full_disk_there_is_one_warning_and_all_is_sent_later(tmp_path):
    disk = tmp_path / "wandb"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        write_lines(tmp_path, 2999)
        (warning,) = logged(tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert "no space left" in warning.lower()
    assert_all_is_sent_later(tmp_path, 2999)
