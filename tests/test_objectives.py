"""Losses, penalties and optimisers: against textbook formulas and PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.configs import configured
from helpers.run_folders import only_run, results_of
from layerwise.config.build import build_objective, build_optimizer
from layerwise.models.heads import SingleLogit
from layerwise.models.readout import Readout
from layerwise.training.choices import LOSSES
from layerwise.training.objectives import LocalLoss, Penalised, class_loss

Z = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
Y = torch.tensor([0, 2])
ONE_HOT = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cross_entropy", -(Z.log_softmax(1) * ONE_HOT).sum(1).mean()),
        ("binary_cross_entropy", -(ONE_HOT * Z.sigmoid().log() + (1 - ONE_HOT) * (1 - Z.sigmoid()).log()).mean()),
        ("squared_error", (Z - ONE_HOT).square().mean()),
        ("absolute_error", (Z - ONE_HOT).abs().mean()),
    ],
)
def test_class_losses_are_the_textbooks(name, expected):
    torch.testing.assert_close(class_loss(name, Z, Y), expected)
    terms = LocalLoss(loss=name)([Readout(Z), Readout(2 * Z)], Y)
    torch.testing.assert_close(terms["means"]["loss"][0], expected)
    torch.testing.assert_close(terms["loss"], sum(terms["means"]["loss"]))
    assert [int(count) for count in terms["counts"]["correct"]] == [1, 1]


def test_a_single_logit_has_the_binary_cross_entropy():
    head = SingleLogit(nn.Linear(3, 1))
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    z = head.head(x).squeeze(1)
    expected = F.binary_cross_entropy_with_logits(z, y.float())
    torch.testing.assert_close(class_loss("cross_entropy", head(x), y), expected)
    smooth = F.binary_cross_entropy_with_logits(z, y * 0.8 + 0.1)
    torch.testing.assert_close(class_loss("cross_entropy", head(x), y, label_smoothing=0.2), smooth)
    assert head(x).argmax(1).tolist() == (z > 0).long().tolist()


@pytest.mark.parametrize(
    ("name", "loss"),
    [("cross_entropy", F.cross_entropy), ("binary_cross_entropy", F.binary_cross_entropy_with_logits)],
)
def test_smoothing_mixes_the_targets(name, loss):
    expected = loss(Z, 0.8 * ONE_HOT + 0.2 / 3)
    torch.testing.assert_close(class_loss(name, Z, Y, label_smoothing=0.2), expected)
    torch.testing.assert_close(LocalLoss(0.2, loss=name)([Readout(Z)], Y)["loss"], expected)


def test_penalties_add_to_the_loss_and_not_to_what_is_reported():
    w = torch.tensor([[1.0, -2.0]], requires_grad=True)
    plain, penalised = LocalLoss(), Penalised(LocalLoss(), [w], l1=0.1, l2=0.01)
    a, b = (objective([Readout(Z)], Y) for objective in (plain, penalised))
    torch.testing.assert_close(b["loss"] - a["loss"], torch.tensor(0.1 * 3 + 0.01 * 5))
    assert a["means"] == b["means"]
    assert penalised.target == "labels"


def test_with_sgd_l2_is_half_of_a_weight_decay():
    """Of weights alone: so on a network whose biases and norms have no decay either."""
    torch.manual_seed(0)
    decayed, penalised = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    penalised.load_state_dict(decayed.state_dict())
    x = torch.randn(8, 3)
    config = {
        name: configured(*words)
        for name, words in {
            "decayed": ["optimizer.weight_decay=0.02"],
            "penalised": ["optimizer.weight_decay=0", "objective.l2=0.01"],
        }.items()
    }
    for name, layer in (("decayed", decayed), ("penalised", penalised)):
        optimizer = build_optimizer(config[name], layer)
        objective = build_objective(config[name], "labels", layer)
        for _ in range(5):
            optimizer.zero_grad()
            objective([Readout(layer(x))], torch.arange(8) % 3)["loss"].backward()
            optimizer.step()
    torch.testing.assert_close(decayed.weight, penalised.weight)


def test_penalties_are_on_matrices_and_kernels_only():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    objective = build_objective(configured("objective.l1=0.5"), "labels", net)
    assert isinstance(objective, Penalised)
    assert [weight.shape for weight in objective.weights] == [(2, 1, 3, 3), (2, 2)]
    assert not isinstance(build_objective(configured(), "labels", net), Penalised)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "squared_error", "absolute_error"])
def test_other_losses_train_convolutions_and_are_reported(trained, loss):
    row = results_of(trained(f"objective.loss={loss}", epochs=20, **{"optimizer.lr": 0.05}))["blocks"][-1]
    assert row["test"]["top1"] > 20
    assert row["test"]["loss"] < 1.0  # a mean over classes; the cross-entropy would begin at 2.3


@pytest.mark.parametrize("optimizer", [("adamw", ""), ("timm", "lamb")])
def test_other_optimisers_train_a_run(train_py, tmp_path, optimizer):
    kind, name = optimizer
    words = [f"optimizer.name={name}"] if name else []
    assert train_py(*words, optimizer=kind, **{"optimizer.lr": 0.003}, epochs=3).code == 0
    assert results_of(only_run(tmp_path))["blocks"][0]["train"]["top1"] > 10


@pytest.mark.parametrize("name", LOSSES)
def test_class_weights_multiply_the_loss_of_a_sample(name):
    z, targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0])
    weights = torch.tensor([1.0, 2.0, 0.5])
    each = [class_loss(name, z[i : i + 1], targets[i : i + 1], 0.1) for i in range(6)]
    expected = sum(weights[c] * loss for c, loss in zip(targets.tolist(), each, strict=True)) / 6
    torch.testing.assert_close(class_loss(name, z, targets, 0.1, weights), expected)
    torch.testing.assert_close(class_loss(name, z, targets, 0.1, torch.ones(3)), class_loss(name, z, targets, 0.1))
