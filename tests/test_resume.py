"""Runs of every plan that are stopped end as those that are not, to the bit. See test_runs.py for kills and signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.run_folders import results_of
from layerwise.config.identity import identity
from layerwise.core.files import load_tree
from layerwise.runs import origin

GROWN = {
    "model": "mlp",
    "k": 1,
    "model.width": 16,
    "model.head_width": None,
    "model.downsample": None,
    "J": None,
    "dataset.validation": 0.25,
    "precision": "fp32",
    "optimizer.lr": 0.3,
    "plan.max_blocks": 6,
    "plan.patience": 1,
    "plan.finetune.epochs": 4,
}
SIMULTANEOUS = {"plan": "simultaneous", "optimizer": "adam", "model.head": "predsim", "model.head_width": None}
PRUNED = {"plan.prune_to": 4, "plan.prune_epochs": 1, "J": 3, "model.downsample": "[3]"}
RECIPE = {
    "dataset.cutout": 3,
    "model.widths": "[12,8]",
    "model.width": None,
    "model.activation": "gelu",
    "model.initialisation": "dirac",
    "model.whiten_input": "true",
    "evaluation.every": 1,
    "optimizer.nesterov": "true",
    "optimizer.schedule": "onecycle",
    "optimizer.warmup": 0.1,
    "optimizer.final": 0.01,
    "optimizer.norm_decay": "false",
    "optimizer.average": 0.9,
}

STOPS: dict[str, tuple[dict[str, Any], Callable[[int, int], bool]]] = {
    "while it grows": (GROWN, lambda stage, saved: saved == 1),
    "where patience decides": (GROWN, lambda stage, saved: saved == 3),
    "while it is tuned": (GROWN, lambda stage, saved: saved == 6),
    "simultaneous": (SIMULTANEOUS, lambda stage, saved: saved == 2),
    "a head behind a pruned block": (PRUNED, lambda stage, saved: stage == 2),
    "a last head that is trained anew": (
        PRUNED | {"J": 2, "model.downsample": "[]", "plan.prune_rounds": 2, "plan.last_head_width": 3},
        lambda stage, saved: stage == 5,
    ),
    "a block that is pruned then": (PRUNED, lambda stage, saved: stage == 3),
    "a recipe with all options": (RECIPE, lambda stage, saved: saved == 3),
}


@pytest.mark.parametrize(("options", "stop"), STOPS.values(), ids=list(STOPS))
def test_a_run_that_is_stopped_goes_on_to_the_bit(assert_goes_on_to_the_bit, options, stop):
    folder = assert_goes_on_to_the_bit(stop, **options)
    if options is GROWN:  # fine-tuning takes the number of a depth that was never trained, and has a file of its own
        results = results_of(folder)
        last = load_tree(folder / "checkpoints" / f"stage_{len(results['stages'])}.safetensors")
        assert last["rows"][0]["block"] == results["final"]["block"]


@pytest.mark.parametrize("where", [1, 2])
def test_a_run_that_a_version_with_fewer_keys_began_goes_on(assert_goes_on_to_the_bit, monkeypatch, where):
    """Its lines of metrics.jsonl have another mark, which only its checkpoints explain: here that of a stage in
    training."""
    earlier = True

    def known(config: Any) -> dict[str, Any]:
        return {key: value for key, value in identity(config).items() if not (earlier and key == "checkpoint.keep")}

    def stop(stage: int, saved: int) -> bool:
        nonlocal earlier
        earlier = earlier and stage < where
        return stage == where

    monkeypatch.setattr(origin, "identity", known)
    assert_goes_on_to_the_bit(stop)
