"""Shared fixtures: a tiny data set and runs of train.py."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from helpers.commands import ROOT, Outcome, TrainPy, arguments
from helpers.data import CPU, tiny_spec
from helpers.processes import popen
from helpers.run_folders import numbers, results_of
from layerwise.commands import own_process
from layerwise.data.augment import CropFlip
from layerwise.data.dataset import Dataset, Resident
from layerwise.experiment import stage as stage_run
from layerwise.runs.checkpoints import Checkpoints
from layerwise.training.plan import Stage


@pytest.fixture(autouse=True, scope="session")
def quick_hydra() -> Iterator[None]:
    """Halves the seconds that Hydra takes for a run: libyaml reads its files, and it composes them once.

    It composes them a first time to look for the key hydra.mode, which nothing here sets.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        yield


@pytest.fixture
def tiny_data() -> Dataset:
    """70 random training and 30 test images of 8×8 in three classes, augmented."""
    generator = torch.Generator().manual_seed(0)
    spec = tiny_spec()
    splits = {}
    for name, n in (("train", spec.train_samples), ("test", spec.test_samples)):
        images = torch.randint(0, 256, (n, 8, 8, 3), generator=generator, dtype=torch.uint8)
        splits[name] = Resident(images, torch.randint(0, 3, (n,), generator=generator), CPU)
    return Dataset(spec, splits, CropFlip(spec.padding, spec.flip), seed=0, device=CPU)


@pytest.fixture
def save_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of tiny runs are too short to be saved each."""
    monkeypatch.setattr(stage_run, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that start a process for each run fork it, which saves the import of PyTorch."""
    monkeypatch.setattr(own_process, "subprocess", SimpleNamespace(Popen=popen, DEVNULL=None, PIPE=None))


@pytest.fixture(scope="session")
def rows_of_whole_runs() -> dict[str, list[dict[str, Any]]]:
    """The rows of runs that nothing stopped, by their options."""
    return {}


@pytest.fixture
def rows_of_whole_run(
    train_py: TrainPy, tmp_path: Path, rows_of_whole_runs: dict[str, list[dict[str, Any]]]
) -> Callable[..., list[dict[str, Any]]]:
    """`rows_of_whole_run(epochs=6)`: what a run gives that nothing stopped; it is trained once a session."""

    def rows(**options: Any) -> list[dict[str, Any]]:
        key = repr(sorted(options.items()))
        if key not in rows_of_whole_runs:
            assert train_py(name="whole", **options).code == 0
            rows_of_whole_runs[key] = numbers(results_of(tmp_path / "out" / "whole"))
        return rows_of_whole_runs[key]

    return rows


@pytest.fixture
def assert_goes_on_to_the_bit(
    train_py: TrainPy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_each_epoch: None,
    rows_of_whole_run: Callable[..., list[dict[str, Any]]],
) -> Callable[..., Path]:
    """Stops a run by SIGTERM, trains on, and compares its rows with those of a whole run. Gives the run folder.

    `stop(stage, saves)` is asked after each checkpoint of a stage in training; stages count from 1.
    """

    def check(stop: Callable[[int, int], bool], **options: Any) -> Path:
        whole = rows_of_whole_run(**options)
        original, saved = Checkpoints.save_training, []

        def save(checkpoints: Checkpoints, stage: Stage, step: int, tree: dict[str, Any]) -> None:
            original(checkpoints, stage, step, tree)
            saved.append(step)
            if stop(stage.index + 1, len(saved)):
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save_training", save)
            assert train_py(name="stopped", **options).code == 128 + signal.SIGTERM
        assert train_py(name="stopped", **options).code == 0
        folder = tmp_path / "out" / "stopped"
        assert numbers(results_of(folder)) == whole
        return folder

    return check


@pytest.fixture
def train_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> TrainPy:
    """Runs train.py with the tiny overrides and more, as a user would, but in this process (imports are slow)."""

    def run(*more: str, **overrides: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments(tmp_path, *more, **overrides)])
        monkeypatch.setenv("COLUMNS", "120")
        GlobalHydra.instance().clear()
        capfd.readouterr()
        code: Any = 0
        try:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        out, err = capfd.readouterr()
        return Outcome(code or 0, out, err)

    return run


@pytest.fixture
def no_wandb_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No account and no settings of whoever runs the tests, and no service of W&B after them."""
    os.environ.pop("WANDB_SERVICE", None)  # an earlier test's service; monkeypatch would name it again
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    (tmp_path / "home").mkdir()
    yield
    import wandb

    wandb.teardown()


@pytest.fixture
def trained(train_py: TrainPy) -> Callable[..., Path]:
    """`trained(k=1)`: trains with the tiny overrides and more, which must succeed, and returns the run folder."""

    def run(*more: str, **overrides: Any) -> Path:
        outcome = train_py(*more, **overrides)
        assert outcome.code == 0, outcome.err
        return Path(outcome.out.partition("run folder: ")[2].splitlines()[0])

    return run
