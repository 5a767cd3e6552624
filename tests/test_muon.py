"""`optimizer.muon_lr`: Muon trains the kernels of convolutions, SGD everything else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.configs import configured
from helpers.networks import plain_net
from layerwise.config.build import build_optimizer
from layerwise.core.errors import LayerwiseError
from layerwise.training.muon import MuonSGD, orthogonal
from layerwise.training.optim import set_learning_rate

MUON = ("optimizer.muon_lr=0.24", "optimizer.lr=0.75")


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (8, 8)])
def test_an_orthogonal_matrix_has_the_singular_vectors_and_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = torch.diagonal(u.T @ orthogonal(matrix) @ v.T)
    large = s > 0.3 * s[0]
    assert found[large].min() > 0.6
    assert found.max() < 1.3
    torch.testing.assert_close(u @ torch.diag(found) @ v, orthogonal(matrix), atol=1e-4, rtol=0)


def test_a_step_is_that_of_the_formula_and_of_sgd_for_the_rest():
    net, other = plain_net(), plain_net()
    made = build_optimizer(configured(*MUON), net)
    plain = build_optimizer(configured("optimizer.lr=0.75"), other)
    kernels = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    gradients = torch.Generator().manual_seed(0)
    steps = [{name: torch.randn(p.shape, generator=gradients) for name, p in net.named_parameters()} for _ in range(2)]
    for step in steps:
        for (name, a), b in zip(net.named_parameters(), other.parameters(), strict=True):
            a.grad, b.grad = step[name].clone(), step[name].clone()
        for optimizer in (made, plain):
            set_learning_rate(optimizer, 0.375)  # half of both learning rates
            optimizer.step()
    for (name, now), as_sgd in zip(net.named_parameters(), other.parameters(), strict=True):
        if now.dim() != 4:
            assert torch.equal(now, as_sgd), name
            continue
        w, momentum = kernels[name], torch.zeros_like(now)
        for g in (step[name] for step in steps):
            momentum = 0.6 * momentum + g
            w = w * len(w) ** 0.5 / w.norm() - 0.12 * orthogonal((g + 0.6 * momentum).flatten(1)).view_as(w)
        torch.testing.assert_close(now, w)


def test_without_it_the_optimizer_is_plain_sgd():
    assert not isinstance(build_optimizer(configured(), plain_net()), MuonSGD)


@pytest.mark.parametrize("words", [("model.batch_norm=false",), ("optimizer=adam",), ("k=1",)])
def test_it_needs_sgd_and_batch_norms(words):
    key = "optimizer.muon_lr=0.24" if "optimizer=adam" not in words else "+optimizer.muon_lr=0.24"
    with pytest.raises(LayerwiseError, match=r"optimizer\.muon_lr"):
        configured(key, *words)


def test_a_killed_run_goes_on_to_the_bit(assert_goes_on_to_the_bit):
    options = {"optimizer.muon_lr": 0.1, "optimizer.shift_lr": 4, "optimizer.schedule": "onecycle"}
    assert_goes_on_to_the_bit(lambda stage, saved: saved == 3, **options)


def test_kernels_are_those_of_convolutions():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    groups = build_optimizer(configured(*MUON), net).param_groups
    assert [[list(p.shape) for p in group["params"]] for group in groups if group.get("muon")] == [[[4, 3, 3, 3]]]
