"""Shared fixtures: a tiny data set, tiny networks, and runs of train.py."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from layerwise.data.augment import CropFlip
from layerwise.data.dataset import Dataset, DatasetSpec, Resident
from layerwise.experiment import stage as stage_run
from layerwise.features.cache_plan import CacheDecision, decide_cache
from layerwise.features.codec import FeatureCodec, FeatureDtype
from layerwise.models.blocknet import BlockNet
from layerwise.models.downsampling import Downsampling
from layerwise.models.simcnn import simcnn

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")

TINY = {
    "dataset": "digits",
    "k": 2,
    "J": 2,
    "epochs": 2,
    "batch_size": 64,
    "model.width": 8,
    "model.head_width": 8,
    "model.downsample": "[2]",
    "dataset.limit": 200,
    "dataset.limit_test": 100,
    "report": "false",
}
"""Overrides of a run that takes a second or two."""


def tiny_spec(channels: int = 3, size: int = 8) -> DatasetSpec:
    return DatasetSpec(
        name="tiny",
        shape=(channels, size, size),
        classes=("a", "b", "c"),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        padding=2,
        flip=True,
        train_samples=70,
        test_samples=30,
    )


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


def tiny_net(**changes: Any) -> BlockNet:
    """k = 2, J = 3, in channels_last as in a run."""
    return plain_net(**changes).to(memory_format=torch.channels_last)


def plain_net(**changes: Any) -> BlockNet:
    options: dict[str, Any] = {
        "k": 2,
        "J": 3,
        "width": 8,
        "head_width": 8,
        "downsample": [2],
        "downsampling": Downsampling.invertible,
        "batch_norm": True,
    }
    return simcnn((3, 8, 8), 3, **options | changes)


def decide_small(kind: str, folder: Path, **changes: Any) -> CacheDecision:
    """What is cached of 100 samples of 64 float32 features, which are not augmented."""
    options: dict[str, Any] = {
        "shapes": [(4, 4, 4)],
        "images": 100,
        "held_out": 0,
        "views": 1,
        "epochs": 1,
        "augmented": False,
        "codec": FeatureCodec(FeatureDtype.float32),
        "computed": torch.float32,
        "budget_bytes": None,
        "folder": folder,
    }
    return decide_cache(kind, **options | changes)


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


TrainPy = Callable[..., Outcome]


@pytest.fixture
def save_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of tiny runs are too short to be saved each."""
    monkeypatch.setattr(stage_run, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)


def arguments(tmp_path: Path, *more: str, **overrides: Any) -> list[str]:
    """Arguments of a tiny run; keys with dots are given as `**{"model.width": 4}`, and None leaves one out."""
    options = {**TINY, "output_dir": tmp_path / "out", **overrides}
    return [*(f"{key}={value}" for key, value in options.items() if value is not None), *more]


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


def start(tmp_path: Path, *more: str, **overrides: Any) -> subprocess.Popen[str]:
    """Starts train.py in a process of its own, to be killed or sent signals."""
    line = [sys.executable, str(ROOT / "train.py"), *arguments(tmp_path, *more, **overrides)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)


def only_run(tmp_path: Path) -> Path:
    """The one run folder that was made."""
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def numbers(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of results.json without what depends on the clock or the machine."""
    timed = ("seconds", "images_per_second", "peak_memory_mb")
    return [{name: value for name, value in row.items() if name not in timed} for row in results["blocks"]]
