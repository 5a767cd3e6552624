"""A disk that is full, or becomes read-only, while a run writes to it: a small tmpfs. Needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.commands import assert_refused
from helpers.run_folders import numbers, results_of
from layerwise.experiment import recorder
from layerwise.features.store import DiskFeatureStore
from layerwise.runs.checkpoints import Checkpoints
from layerwise.runs.metrics import Metrics

pytestmark = [pytest.mark.campaign, pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")]

FILLER = "filler"


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 32 MB where the run folders lie."""
    folder = tmp_path / "out"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", folder)
    yield folder
    unmount(folder)


def fill(disk: Path) -> None:
    """Takes all space that is left, as another program does."""
    with open(disk / FILLER, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(2**16)):
            pass


@pytest.fixture
def before(monkeypatch) -> Callable[..., None]:
    """`before(owner, name, action)`: acts before the first call of a function."""

    def patch(owner: object, name: str, action: Callable[[], object]) -> None:
        original, actions = getattr(owner, name), [action]

        def call(*args, **options):
            while actions:
                actions.pop()()
            return original(*args, **options)

        monkeypatch.setattr(owner, name, call)

    return patch


WANDB = {"logger": "wandb", "logger.wandb.mode": "offline"}
PLACES = {
    "cache": (DiskFeatureStore, "_open", {"cache": "disk"}),
    "metrics": (Metrics, "append", {}),
    "checkpoint in training": (Checkpoints, "save_training", {}),
    "finished stage": (Checkpoints, "save_finished", {}),
    "results": (recorder, "write_results", {}),
    "W&B": (Metrics, "append", WANDB),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.usefixtures("no_wandb_account", "save_each_epoch")
def test_a_run_on_a_disk_that_becomes_full_stops_with_one_message_and_goes_on(
    disk, before, train_py, rows_of_whole_run, place
):
    owner, name, options = PLACES[place]
    expected = rows_of_whole_run(**options)
    before(owner, name, lambda: fill(disk))
    assert_refused(train_py(name="run", **options), str(disk / "run"), "no space left on the disk")
    (disk / FILLER).unlink()
    assert train_py(name="run", **options).code == 0
    assert numbers(results_of(disk / "run")) == expected
    assert not list(disk.glob("run/**/*.part*"))


@pytest.mark.parametrize("place", ["metrics", "checkpoint in training", "finished stage", "results"])
@pytest.mark.usefixtures("save_each_epoch")
def test_a_run_on_a_disk_that_becomes_read_only_stops_with_one_message_and_goes_on(
    disk, before, train_py, rows_of_whole_run, place
):
    owner, name, options = PLACES[place]
    expected = rows_of_whole_run(**options)

    def protect() -> None:
        mount("--bind", disk / "run", disk / "run")
        mount("-o", "remount,ro,bind", disk / "run")

    before(owner, name, protect)
    assert_refused(train_py(name="run", **options), str(disk / "run"), "Read-only file system")
    unmount(disk / "run")
    assert train_py(name="run", **options).code == 0
    assert numbers(results_of(disk / "run")) == expected


def test_a_report_for_which_there_is_no_space_is_made_by_the_same_command(disk, before, train_py):
    before(recorder, "write_report", lambda: fill(disk))
    outcome = train_py(name="run", report="true")
    assert outcome.code == 0
    assert "no space left on the disk" in outcome.err
    assert results_of(disk / "run")["status"] == "completed"
    (disk / FILLER).unlink()
    assert train_py(name="run", report="true").code == 0
    assert (disk / "run" / "report.html").exists()
