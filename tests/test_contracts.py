"""Parts of other packages that break their contract give one message that names the part and what it must be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.commands import TrainPy, assert_refused
from helpers.outside import FOLDER, HEAD
from helpers.run_folders import results_of

PARTS = """
import torch
from torch import nn
from layerwise.data.own import Samples

def wide_head(shape, classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], classes + 1))

def maps_head(shape, classes):
    return nn.Conv2d(shape[0], classes, 1)

def narrow_head(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3, classes))

def lazy_head(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

class Holding(nn.Module):
    def __init__(self, block, classes):
        super().__init__()
        self.block, self.classes = block, classes

    def forward(self, x):
        return x.mean((2, 3))[:, :1].expand(-1, self.classes)

def holding_head(shape, classes, later):
    return Holding(later[0], classes) if later else maps_head(shape, classes)

def failing_head(shape, classes, ratio=2):
    return nn.Linear(shape[0] // ratio, classes)

def nan_head(shape, classes):
    head = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
    nn.init.constant_(head[1].weight, float("nan"))
    return head

def misfit(shape, J=2):
    return [nn.Conv2d(shape[0], 4, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)]

def shared(shape, J=2):
    return [nn.Conv2d(shape[0], shape[0], 3, padding=1)] * 2

def loss(z, targets):
    return z.sum()

class Loss:
    def __init__(self, kind="vector"):
        self.kind = kind

    def __call__(self, z, targets):
        each = nn.functional.cross_entropy(z, targets, reduction="none")
        found = {"vector": each, "float": each.mean().item(), "detached": each.mean().detach()}
        return found[self.kind]

class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, z, targets):
        return nn.functional.cross_entropy(z / self.temperature, targets)

def images(kind="channels first", n=40):
    pixels, labels = torch.zeros(n, 8, 8, 3, dtype=torch.uint8), torch.arange(n) % 2
    if kind == "channels first":
        return (pixels.permute(0, 3, 1, 2), labels), (pixels.permute(0, 3, 1, 2), labels)
    if kind == "from 1":
        return (pixels, labels + 1), (pixels, labels + 1)
    if kind == "unseen":
        return (pixels, labels), (pixels, labels + 5)
    return (pixels, labels), (pixels[:0], labels[:0])
"""

BROKEN = {
    "classes": (
        {"model.head._target_": "wide_head"},
        "head at depth 1 maps [B, 8, 8, 8] to [B, 11]; it must give [B, 10]",
    ),
    "maps": ({"model.head._target_": "maps_head"}, "maps [B, 8, 8, 8] to [B, 10, 8, 8]; it must give [B, 10]"),
    "misfit head": (
        {"model.head._target_": "narrow_head"},
        "the head at depth 1, called with [B, 8, 8, 8]: raised Runt",
    ),
    "lazy": ({"model.head._target_": "lazy_head"}, "the head at depth 1 has lazy layers"),
    "holding": ({"model.head._target_": "holding_head"}, "the head at depth 1 holds parameters of block 2"),
    "type": (
        {"model.head._target_": "failing_head", "model.head.ratio": "two"},
        "raised TypeError: unsupported operand",
    ),
    "nan": (
        {"model.head._target_": "nan_head"},
        "step 1. Earlier … It was so before the first update: look at the data",
    ),
    "blocks": ({"model._target_": "misfit"}, "misfit: block 2, called with [B, 4, 8, 8]: raised RuntimeError"),
    "shared": ({"model._target_": "shared"}, "shared: blocks 1 and 2 share a parameter"),
    "a loss itself": ({"objective._target_": "loss"}, "needs objective.z=…, which has no default. It is called once"),
    "vector": ({"objective._target_": "Loss"}, "Loss: returned a tensor [2]; it must return the mean loss"),
    "float": ({"objective._target_": "Loss", "objective.kind": "float"}, "Loss: returned float; it must"),
    "detached": ({"objective._target_": "Loss", "objective.kind": "detached"}, "returned a scalar without a gradient"),
    "key": ({"objective._target_": "Loss", "objective.kind": "x"}, "scores [2, 10] and targets [2]: raised KeyError"),
    "trained loss": ({"objective._target_": "Trained"}, "Trained: has trained parameters, which no optimiser updates"),
    "channels first": ({"dataset._target_": "images"}, "train: values are uint8 [40, 3, 8, 8], with channels first"),
    "from 1": (
        {"dataset._target_": "images", "dataset.kind": "from 1"},
        "the smallest label is 1; labels count from 0",
    ),
    "unseen": ({"dataset._target_": "images", "dataset.kind": "unseen"}, "label 5 is in test but not in train"),
    "empty": ({"dataset._target_": "images", "dataset.kind": "empty"}, "test: has no samples"),
}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts_of_mine.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "parts_of_mine", raising=False)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_contract_is_one_message(parts, train_py, name):
    keys, message = BROKEN[name]
    keys = {key: f"parts_of_mine.{value}" if key.endswith("_target_") else value for key, value in keys.items()}
    dropped: dict[str, None] = {}
    if "model._target_" in keys:
        dropped = dict.fromkeys(("model.width", "model.head_width", "model.downsample"))
    if "model.head._target_" in keys:
        dropped = {"model.head_width": None, "model.downsample": None}
    if "dataset._target_" in keys:
        dropped = {"dataset": None, "dataset.limit": None, "dataset.limit_test": None}
    assert_refused(train_py(**dropped | keys), *message.split(" … "))


def test_a_head_behind_simcnn_leaves_a_folder_that_goes_on(monkeypatch, train_py, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    first, second = (train_py(**HEAD) for _ in range(2))
    assert (first.code, second.code) == (0, 0), second.err
    assert "warning" not in first.err + second.err
    (run,) = (tmp_path / "out").iterdir()
    assert (run / "report.html").exists() or results_of(run)


def test_arguments_reach_the_function_that_an_experiment_of_ones_own_names(parts, train_py: TrainPy, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    text = "# @package _global_\nobjective:\n  _target_: parts_of_mine.Loss\n"
    (folder / "scored.yaml").write_text(text)
    words = ("--config-dir", str(tmp_path / "mine"), "experiment=scored")
    assert_refused(train_py(*words, **{"objective.kind": "float"}), "Loss: returned float")
    assert_refused(train_py(*words, **{"objective.knd": "float"}), "objective.knd", "'objective.kind'")
