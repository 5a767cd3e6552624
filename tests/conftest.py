"""Shared fixtures: a tiny data set and runs of train.py."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from helpers.commands import ROOT, Outcome, TrainPy, arguments
from helpers.data import CPU, tiny_spec
from layerwise.data.augment import CropFlip
from layerwise.data.dataset import Dataset, Resident
from layerwise.experiment import stage as stage_run


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
