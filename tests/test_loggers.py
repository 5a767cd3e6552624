"""W&B and TensorBoard: what they write is what the run folder says, and no failure of theirs reaches the run."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import wandb
import yaml

from helpers.commands import SCRIPTS, Outcome, TrainPy, assert_refused, run_script
from helpers.run_folders import numbers, only_run, results_of
from helpers.wandb_files import offline_runs
from layerwise.__main__ import main
from layerwise.commands.log import main as log_command
from layerwise.config.parse import from_yaml
from layerwise.reporting.loggers.base import Beginning, Loggers
from layerwise.reporting.loggers.content import block_table, scalars_by_block
from layerwise.reporting.loggers.tensorboard_files import CELL, heat_map
from layerwise.reporting.loggers.wandb_run import WandbRun
from layerwise.runs.metrics import read_lines

OFFLINE = {"logger": "wandb", "logger.wandb.mode": "offline"}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No account and no settings of whoever runs the tests, and no service of W&B after them."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    (tmp_path / "home").mkdir()
    yield
    wandb.teardown()


@pytest.fixture
def scripts_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of scripts/ can be imported."""
    monkeypatch.syspath_prepend(SCRIPTS)


def at_epoch(monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[Loggers], object]) -> None:
    """Does something before an epoch of the run is logged, counted from 1."""
    epoch, seen = Loggers.epoch, []

    def watched(self: Loggers, line: dict[str, Any]) -> None:
        seen.append(line)
        if len(seen) == number:
            do(self)
        epoch(self, line)

    monkeypatch.setattr(Loggers, "epoch", watched)


def interrupted(train_py: TrainPy, number: int, **options: Any) -> Outcome:
    """A run that gets a signal in one of its epochs."""
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, number, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        return train_py(**options)


def log(*words: object) -> int:
    """The exit code of `layerwise log`."""
    return log_command(list(map(str, words)))


def tensorboard_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def assert_history_is_that_of_the_files(rows: list[dict[str, Any]], folder: Path) -> None:
    epochs = [row for row in rows if "epoch" in row]
    lines = read_lines(folder / "metrics.jsonl")
    for name, key in (("step", "step"), ("stage", "stage"), ("block", "block"), ("train/loss", "loss"), ("lr", "lr")):
        assert [row[name] for row in epochs] == pytest.approx([line[key] for line in lines])
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert len({row["step"] for row in epochs}) == len(epochs)


def test_both_logs_hold_what_the_files_of_the_run_say(train_py, tmp_path):
    words = ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline", "logger.wandb.project=thesis"]
    words += ["logger.wandb.tags=[first]", "logger.wandb.artifacts=true", "evaluation.every=1"]
    outcome = train_py(*words)
    assert outcome.code == 0
    folder = only_run(tmp_path)
    (run,) = offline_runs(folder)
    results, lines = results_of(folder), read_lines(folder / "metrics.jsonl")

    assert f"wandb sync {folder}/wandb/offline-run-*-{run.run['id']}" in outcome.err
    expected = {"project": "thesis", "group": "digits-simcnn", "job_type": "greedy", "name": folder.name}
    assert run.run == expected | {"id": run.run["id"], "tags": ["greedy", "k=2", "first"]}
    assert run.exit_code == 0
    assert run.config["model"]["width"] == 8
    assert run.config["run_folder"] == str(folder.resolve())
    assert "logger" not in run.config
    assert_history_is_that_of_the_files(run.rows, folder)
    assert run.column("depth/test_top1") == pytest.approx([row["test"]["top1"] for row in results["blocks"]])
    assert run.column("depth_block") == [1, 2]
    for name in ("test_top1", "ensemble_top1", "parameters"):
        assert run.summary[name] == pytest.approx(results["final"][name])
    assert run.summary["seconds"] == pytest.approx(results["seconds"])
    assert run.summary["status"] == "completed"
    columns, rows = block_table(results)
    assert run.table("blocks") == {"columns": columns, "data": rows}
    confusion = results["classification"]["confusion_matrix"]
    assert [row[2] for row in run.table("confusion_matrix_table")["data"]] == [n for row in confusion for n in row]
    assert any(name.startswith("network-") for name in run.artifacts)

    events = tensorboard_events(folder)
    for block in (1, 2):
        own = [line for line in lines if line["block"] == block]
        for tag, values in (
            ("train/loss", [line["loss"] for line in own]),
            ("test/top1", [*(line["test"]["top1"] for line in own), results["blocks"][block - 1]["test"]["top1"]]),
        ):
            scalars = events.Scalars(f"{tag}/block_{block}")
            assert [scalar.value for scalar in scalars] == pytest.approx(values)
            assert [scalar.step for scalar in scalars][: len(own)] == [line["step"] for line in own]
    assert [scalar.step for scalar in events.Scalars("depth/test_top1")] == [1, 2]
    assert "confusion_matrix" in events.Tags()["images"]
    (text,) = events.Tensors("config/text_summary")
    assert '"batch_size": 64' in text.tensor_proto.string_val[0].decode()

    train_py(*words)  # finished: nothing more is logged
    assert len(offline_runs(folder)) == 1
    train_py(*words, fresh="true", epochs=1, name=folder.name)
    (anew,) = offline_runs(folder)
    assert anew.run["id"] != run.run["id"]


def test_a_resumed_run_is_the_same_wandb_run_and_logs_no_step_twice(train_py, tmp_path, save_each_epoch):
    options = {"logger": "[wandb,tensorboard]", "logger.wandb.mode": "offline", "epochs": 3}
    outcome = interrupted(train_py, 4, **options)
    assert outcome.code == 143
    assert "wandb sync" in outcome.err
    assert train_py(**options).code == 0
    folder = only_run(tmp_path)
    first, second = offline_runs(folder)
    assert first.run["id"] == second.run["id"]
    assert first.exit_code != 0
    assert_history_is_that_of_the_files([*first.rows, *second.rows], folder)
    assert [row["stages"] for run in (first, second) for row in run.rows if "stages" in row] == [1, 2]
    for block in (1, 2):
        steps = [scalar.step for scalar in tensorboard_events(folder).Scalars(f"train/loss/block_{block}")]
        own = [line["step"] for line in read_lines(folder / "metrics.jsonl") if line["block"] == block]
        assert steps == own


def test_tensorboard_keeps_and_catches_up_on_the_scores_of_finished_stages(train_py, tmp_path, monkeypatch):
    options = {"logger": "tensorboard", "J": 4}
    assert interrupted(train_py, 3, **options).code == 143  # in the first epoch of the second stage
    with pytest.MonkeyPatch.context() as patch:  # killed after the second stage is finished and before it is shown
        patch.setattr(Loggers, "stage", lambda *_: (_ for _ in ()).throw(KeyError))
        patch.setattr(Loggers, "end", lambda *_: None)
        with pytest.raises(KeyError):
            train_py(**options)
    assert train_py(**options).code == 0
    folder = only_run(tmp_path)
    events, lines = tensorboard_events(folder), read_lines(folder / "metrics.jsonl")
    for entry in results_of(folder)["stages"]:
        own = [line["step"] for line in lines if line["stage"] == entry["stage"]]
        for measure in ("test", "ensemble"):
            (scalar,) = events.Scalars(f"{measure}/top1/block_{entry['block']}")
            assert scalar.value == pytest.approx(entry[measure]["top1"])
            assert scalar.step == own[-1]
        assert [scalar.step for scalar in events.Scalars(f"train/loss/block_{entry['block']}")] == own
    assert [scalar.value for scalar in events.Scalars("stages")] == [1, 2, 3, 4]


def test_tensorboard_shows_stages_of_another_run(train_py, tmp_path):
    assert train_py(name="first").code == 0
    reuse = {"plan.reuse": tmp_path / "out" / "first", "model.final_head_width": 4}
    assert train_py(name="second", logger="tensorboard", **reuse).code == 0
    events = tensorboard_events(tmp_path / "out" / "second")
    assert [scalar.value for scalar in events.Scalars("stages")] == [1, 2]
    assert len(events.Scalars("test/top1/block_1")) == 1


def wait_until_open(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while not (folder / "wandb" / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def service() -> psutil.Process:
    """W&B's own process, once it is there."""
    deadline = time.monotonic() + 20
    while not (found := [p for p in psutil.Process().children() if "wandb-core" in p.name()]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found[0]


def test_a_run_whose_wandb_is_killed_ends_with_the_same_results_and_is_sent_later(train_py, tmp_path, monkeypatch):
    at_epoch(monkeypatch, 1, lambda _: wait_until_open(tmp_path / "out" / "struck") or service().kill())
    outcome = train_py(name="struck", **OFFLINE)
    monkeypatch.undo()
    assert outcome.code == 0
    assert outcome.err.count("warning:") == 1
    folder = tmp_path / "out" / "struck"
    assert f"`layerwise log {folder} logger=wandb` sends what is missing" in outcome.err
    train_py(name="plain")
    struck, plain = (results_of(tmp_path / "out" / name) for name in ("struck", "plain"))
    assert struck["status"] == "completed"
    assert numbers(struck) == numbers(plain)
    assert log(folder, "logger=wandb", "logger.wandb.mode=offline") == 0
    (run,) = offline_runs(folder)
    assert_history_is_that_of_the_files(run.rows, folder)
    assert run.exit_code == 0


@pytest.mark.parametrize("again", ["log", "train"])
def test_a_run_without_loggers_is_sent_later_and_once(train_py, tmp_path, again):
    assert train_py().code == 0
    folder, both = only_run(tmp_path), ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline"]
    for _ in range(2):
        assert (log(tmp_path / "out", *both) if again == "log" else train_py(*both).code) == 0
    (run,) = offline_runs(folder)
    assert_history_is_that_of_the_files(run.rows, folder)
    assert run.column("stages") == run.column("depth_block") == [1, 2]
    assert run.config["versions"] == results_of(folder)["versions"]
    assert (run.run["job_type"], run.summary["status"]) == ("greedy", "completed")
    steps = [line["step"] for line in read_lines(folder / "metrics.jsonl") if line["block"] == 2]
    assert [scalar.step for scalar in tensorboard_events(folder).Scalars("train/loss/block_2")] == steps
    assert len(tensorboard_events(folder).Scalars("final/test_top1")) == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["logger=wandb"], "no run is given"),
        (["RUN"], "no logger is given"),
        (["RUN", "logger=wandb", "k=3"], "k=3: only logger=… and its keys"),
        (["RUN", "logger=tensorbord"], "logger=tensorbord: unknown choice"),
        (["none", "logger=wandb"], "none: no such folder"),
    ],
)
def test_log_says_what_it_cannot_do(tmp_path, capsys, words, problem):
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit) as end:
        main(["log", *(str(tmp_path / "run") if word == "RUN" else word for word in words)])
    assert end.value.code == 2
    assert problem in capsys.readouterr().err


def test_a_run_that_is_not_begun_or_in_use_is_named_and_the_others_are_sent(train_py, tmp_path, capfd):
    for name in ("a", "b", "c"):
        train_py(name=name, J=1, **{"model.downsample": "[]"})
    (tmp_path / "out" / "a" / "results.json").unlink()
    with open(tmp_path / "out" / "b" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert log(tmp_path / "out", "logger=tensorboard") == 1
    said = capfd.readouterr().err
    assert f"{tmp_path / 'out' / 'a' / 'results.json'}: cannot be read" in said
    assert f"{tmp_path / 'out' / 'b'}: is being trained" in said
    assert "final/test_top1" in tensorboard_events(tmp_path / "out" / "c").Tags()["scalars"]


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


def write_lines(folder: Path, steps: range) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line_at(step)) + "\n" for step in steps))


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
    write_lines(tmp_path, range(1, 3))
    send_all(tmp_path)
    (run,) = offline_runs(tmp_path)
    assert run.column("step") == [1, 2]


def send_all(folder: Path) -> None:
    warnings: list[str] = []
    loggers = Loggers({"wandb": wandb_run([])}, warnings.append)
    loggers.begin(folder, {}, {})
    loggers.end(None)
    assert warnings == []


@pytest.mark.parametrize("key", [None, "a" * 40])
def test_without_an_account_or_a_server_there_is_one_warning_and_all_is_sent_later(tmp_path, monkeypatch, key):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    warnings: list[str] = []
    write_lines(tmp_path, range(1, 2))
    loggers = Loggers({"wandb": wandb_run([], mode="online", init_seconds=1.0)}, warnings.append)
    loggers.begin(tmp_path, {}, {})
    loggers.epoch(line_at(2))
    loggers.end(None)
    (warning,) = warnings
    assert ("no account is set up" if key is None else "Failed to get resume status") in warning
    write_lines(tmp_path, range(1, 3))
    send_all(tmp_path)
    (run,) = [found for found in offline_runs(tmp_path) if found.rows]
    assert run.column("step") == [1, 2]


def test_what_a_killed_process_had_logged_is_sent_again_and_stands_there_once(tmp_path):
    killed = wandb_run([])
    killed.begin(Beginning(tmp_path, {}, {}, [line_at(step) for step in range(1, 300)]))  # a part of it is on the disk
    with suppress(ConnectionError, SystemExit):
        killed.abandon()
    write_lines(tmp_path, range(1, 302))
    send_all(tmp_path)
    (run,) = offline_runs(tmp_path)
    assert run.column("step") == list(range(1, 302))


def test_on_a_full_disk_there_is_one_warning_and_all_is_sent_later(tmp_path):
    disk = tmp_path / "wandb"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    warnings: list[str] = []
    try:
        write_lines(tmp_path, range(1, 3000))
        loggers = Loggers({"wandb": wandb_run([])}, warnings.append)
        loggers.begin(tmp_path, {}, {})
        loggers.end(None)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    (warning,) = warnings
    assert "no space left" in warning.lower()
    send_all(tmp_path)
    (run,) = offline_runs(tmp_path)
    assert len(run.column("step")) == 2999


def test_a_search_for_the_depth_is_a_wandb_run_of_its_own(train_py, tmp_path):
    options = {"dataset.validation": 0.25, "plan.search_fraction": 0.5, "epochs": 1}
    assert train_py(name="mine", **options, **OFFLINE).code == 0
    folder = tmp_path / "out" / "mine"
    (search,), (run,) = offline_runs(folder / "search"), offline_runs(folder)
    assert (search.run["job_type"], search.run["name"]) == ("search", "mine/search")
    assert (run.run["job_type"], run.run["name"]) == ("greedy", "mine")
    assert run.run["group"] == search.run["group"]
    assert run.summary["search/block"] == results_of(folder)["search"]["block"]


def test_disabled_and_none_write_nothing(train_py, tmp_path):
    train_py(logger="wandb", **{"logger.wandb.mode": "disabled"})
    assert train_py(logger="none").code == 0  # and it is the same folder
    assert not list(only_run(tmp_path).glob("wandb*"))


def test_blocks_that_train_at_once_have_a_curve_each(train_py, tmp_path):
    train_py(plan="simultaneous", epochs=1, **OFFLINE)
    folder = only_run(tmp_path)
    (line, *_), (run,) = read_lines(folder / "metrics.jsonl"), offline_runs(folder)
    assert scalars_by_block(line)[1]["train/loss"] == line["heads"][0]["loss"]
    row = run.rows[0]
    assert [row[f"train/loss/block_{j}"] for j in (1, 2)] == pytest.approx([head["loss"] for head in line["heads"]])
    assert run.run["job_type"] == "simultaneous"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("logger=tensorbord", ["logger=tensorbord: unknown choice", "'tensorboard'"]),
        ("logger=[wandb,tensorbord]", ["logger=tensorbord: unknown choice", "'tensorboard'"]),
        ("logger.wandb.mode=offline", ["unknown key 'logger.wandb.mode'", "Another choice of logger"]),
    ],
)
def test_a_typo_is_named(train_py, option, words):
    assert_refused(train_py(option), *words)


def test_what_wandb_would_refuse_is_refused_at_once(train_py):
    options = {"logger": "wandb", "logger.wandb.project": "my/project"}
    assert_refused(train_py(**options), "logger.wandb.project=my/project: must be a name")
    options = {"logger": "wandb", "logger.wandb.mode": "off-line"}
    assert_refused(train_py(**options), "logger.wandb.mode")


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_logger_that_is_not_installed_is_named(train_py, tmp_path, monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda word, *rest: None if word == name else find(word, *rest))
    assert_refused(train_py(logger=name), f"logger={name}: it is not installed", "[loggers]")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_from_before_there_was_a_choice_of_loggers_is_read(train_py, tmp_path):
    train_py()
    path = only_run(tmp_path) / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"logger": {"name": "none"}}))
    assert from_yaml(path).logger.wandb.mode.value == "disabled"


def test_the_heat_map_shows_each_row_by_its_shares():
    image = heat_map([[3, 1], [0, 0]])
    assert image.dtype == np.uint8
    assert image.shape == (2 * CELL, 2 * CELL, 3)
    right, wrong, empty = image[0, 0].sum(), image[0, -1].sum(), image[-1, -1].sum()
    assert right < wrong < empty == 3 * 255


@pytest.mark.usefixtures("scripts_path")
def test_the_panels_of_the_dashboard_show_what_runs_log(train_py, tmp_path):
    from wandb_dashboard import SECTIONS, drawn, workspace

    train_py(**OFFLINE)
    (run,) = offline_runs(only_run(tmp_path))
    for panel in (panel for panels in SECTIONS.values() for panel in panels):
        names = {panel.y} if panel.x is None else {panel.x, panel.y}
        if panel.is_curve:
            assert any(names <= row.keys() for row in run.rows), panel
        else:
            assert names <= run.summary.keys(), panel
        assert drawn(panel).title == panel.title
    view = workspace("someone", "layerwise", "view")._to_model().model_dump_json()
    assert '"depth/test_top1"' in view
    assert "jobType" in view


def test_the_dashboard_needs_a_login_and_says_so():
    outcome = run_script("wandb_dashboard")
    assert outcome.code == 2
    assert "not logged in to W&B" in outcome.err
    assert "wandb login" in outcome.err
    assert "depth/test_top1 over depth_block" in run_script("wandb_dashboard", "--print").out
