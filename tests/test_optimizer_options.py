"""Options of the optimiser that recipes are made of."""

from __future__ import annotations

import pytest
import torch

from helpers.commands import assert_refused
from helpers.configs import configured
from helpers.networks import plain_net
from helpers.run_folders import numbers, results_of
from layerwise.config.build import build_optimizer, build_schedule
from layerwise.training.optim import OneCycle


@pytest.mark.parametrize(
    "optimizer", [("optimizer=sgd",), ("optimizer=adamw",), ("optimizer=timm", "optimizer.name=lamb")], ids=str
)
def test_norms_and_biases_can_be_exempt_from_the_weight_decay(optimizer):
    net, before = plain_net(), plain_net()
    chosen = [*optimizer, "optimizer.norm_decay=false", "optimizer.weight_decay=0.1", "optimizer.lr=0.1"]
    made = build_optimizer(configured(*chosen), net)
    with torch.no_grad():
        for parameter in (*net.parameters(), *before.parameters()):
            parameter.add_(1)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    for (name, now), then in zip(net.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(now, then) == (now.dim() == 1), name


def test_a_one_cycle_has_the_warm_up_and_the_end_that_are_given():
    chosen = ("optimizer.schedule=onecycle", "optimizer.warmup=0.1", "optimizer.final=0.05")
    assert build_schedule(configured(*chosen)) == OneCycle(0.1, 0.05)
    assert build_schedule(configured(chosen[0])) == OneCycle()


def test_a_run_without_norm_decay_is_another_one(train_py, tmp_path):
    rows = []
    for decay in ("true", "false"):
        assert train_py(name=f"decay-{decay}", **{"optimizer.norm_decay": decay}).code == 0
        rows.append(numbers(results_of(tmp_path / "out" / f"decay-{decay}")))
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"optimizer.warmup": 0.1}, ["optimizer.warmup=0.1", "onecycle"]),
        (
            {"optimizer.final": 0.1, "optimizer.schedule": "cosine"},
            ["optimizer.final=0.1", "it needs optimizer.schedule=onecycle"],
        ),
        ({"optimizer.warmup": 1, "optimizer.schedule": "onecycle"}, ["optimizer.warmup=1", "less than 1"]),
        ({"optimizer.final": -1, "optimizer.schedule": "onecycle"}, ["optimizer.final=-1", "at least 0"]),
        (
            {"optimizer.norm_decay": "false", "plan": "simultaneous", "distributed.parallel": "blocks"},
            ["distributed.parallel=blocks", "optimizer.norm_decay"],
        ),
    ],
)
def test_values_that_make_no_sense_are_refused(train_py, overrides, words):
    assert_refused(train_py(**overrides), *words)
