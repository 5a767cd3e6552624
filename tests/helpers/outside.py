"""The package of examples/own_method, which lies outside of layerwise."""

from __future__ import annotations

from typing import Any

from helpers.commands import ROOT

FOLDER = ROOT / "examples" / "own_method"

HEAD = {"model.head._target_": "own_method.heads.bottleneck", "model.head.width": 6, "model.head_width": None}
NETWORK = {
    "model._target_": "own_method.networks.residual",
    "model.width": 8,
    "model.halve": "[2]",
    "model.head_width": None,
    "model.downsample": None,
}
LOSS = {"objective._target_": "own_method.losses.Focal", "objective.gamma": 1.5}
DATA = {
    "dataset._target_": "own_method.data.bars",
    "dataset.samples": 300,
    **dict.fromkeys(("dataset", "dataset.limit", "dataset.limit_test")),
}
PLAN = {"plan._target_": "own_method.plans.two_passes", "plan.lr": 0.05}
OWN: dict[str, Any] = {**NETWORK, **HEAD, **LOSS, **DATA, **PLAN}
"""Overrides of a tiny run of its parts."""
