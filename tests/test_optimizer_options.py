"""Options of the optimiser that recipes are made of."""

from __future__ import annotations

import pytest
import torch

from helpers.configs import configured
from helpers.networks import plain_net
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


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_has_the_epsilon_that_is_given(kind):
    assert build_optimizer(configured(f"optimizer={kind}"), plain_net()).defaults["eps"] == 1e-8
    given = configured(f"optimizer={kind}", "optimizer.epsilon=1e-7")
    assert build_optimizer(given, plain_net()).defaults["eps"] == 1e-7
