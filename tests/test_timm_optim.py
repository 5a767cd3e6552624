"""timm's optimisers: each one that is offered learns and resumes, and the others say why not."""

from __future__ import annotations

import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers
from torch import nn

from helpers.networks import tiny_net
from helpers.training import FP32, PLAN
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import load_tree, save_tree
from layerwise.core.interrupt import StopRequest
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.training.objectives import LocalLoss
from layerwise.training.optim import Cosine
from layerwise.training.recipe import Recipe
from layerwise.training.timm_optim import check_timm_optimizer, timm_optimizer, usable_timm_optimizers
from layerwise.training.trainer import StageTrainer

USABLE = usable_timm_optimizers()
A_NAME_OF_EACH_CLASS = list(
    {get_optimizer_info(name).opt_class: name for name in sorted(USABLE, key=len, reverse=True)}.values()
)
"""The other names are options of timm's, such as a cautious update."""


def trainer_of(name: str, net: BlockNet) -> StageTrainer:
    """Two epochs of five steps."""
    segment = Segment(net, 0, 1, (1,))
    optimizer = timm_optimizer(name, list(segment.parameters()), lr=0.01, momentum=0.9, weight_decay=5e-4)
    recipe = Recipe(
        epochs=2, samples=70, batch_size=16, lr=0.01, schedule=Cosine(), restart_momentum=False, clip_norm=None, seed=0
    )
    return StageTrainer(0, segment, LocalLoss(0.0), optimizer, recipe, FP32)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(*shape))


def test_most_of_timm_is_offered():
    assert {"lamb", "lion", "adamw", "sgd", "rmsprop", "adafactorbv"} <= set(USABLE)
    assert len(USABLE) > 0.7 * len(list_optimizers())


@pytest.mark.parametrize("name", A_NAME_OF_EACH_CLASS)
def test_each_trains_all_shapes_of_parameters_and_goes_on_to_the_bit(name, tiny_data, tmp_path):
    whole, resumed = tiny_net(), tiny_net(seed=5)
    trainer, again = trainer_of(name, whole), trainer_of(name, resumed)
    before = [p.detach().clone() for p in trainer.parameters]
    source = Recompute(tiny_data, PLAN, FP32)
    epochs = trainer.run(source, StopRequest())
    next(epochs)
    save_tree(tmp_path / "stage", trainer.state_dict())
    last = next(epochs)
    again.load_state_dict(load_tree(tmp_path / "stage"))
    (rest,) = again.run(source, StopRequest())
    assert rest.sums == last.sums
    for a, b, old in zip(trainer.parameters, again.parameters, before, strict=True):
        assert torch.equal(a, b)
        assert a.isfinite().all()
        assert not torch.equal(a, old)


def test_values_reach_the_optimizer():
    values = {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.2}
    for name, keys in {"sgd": {"lr", "momentum", "weight_decay"}, "lamb": {"lr", "weight_decay"}}.items():
        (group,) = timm_optimizer(name, [weight(3, 3), weight(3)], **values).param_groups
        assert {key: group[key] for key in values if key in group} == {key: values[key] for key in keys}


def test_the_momentum_in_float32_is_close_to_the_one_in_bfloat16():
    """`momentum_dtype=None` would look right too, but lets the learning rate scale the momentum."""
    from timm.optim import create_optimizer_v2

    ours, theirs = weight(20, 20), weight(20, 20)
    optimizers = [
        timm_optimizer("adafactorbv", [ours], lr=0.01, momentum=0.9, weight_decay=0.0),
        create_optimizer_v2([theirs], "adafactorbv", lr=0.01, momentum=0.9, weight_decay=0.0),
    ]
    for _ in range(10):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = torch.linspace(-1, 1, 400).reshape(20, 20)
            optimizer.step()
    torch.testing.assert_close(1 - ours, 1 - theirs, rtol=0.02, atol=1e-4)
    assert not torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lmab", r"^optimizer\.name=lmab: unknown\. Did you mean 'lamb'\?$"),
        ("LAMB", r"^optimizer\.name=LAMB: unknown\. Did you mean 'lamb'\?$"),
        ("zzzz", r"^optimizer\.name=zzzz: unknown\. Known: adabelief, .*, sgdw\.$"),
        ("adahessian", r"^optimizer\.name=adahessian: cannot be used: .* second-order gradients"),
        ("fusedlamb", r"^optimizer\.name=fusedlamb: cannot be used: it needs the package apex"),
        ("bnbadam8bit", r"^optimizer\.name=bnbadam8bit: cannot be used: it needs the package bitsandbytes"),
        ("lookahead_lamb", r"^optimizer\.name=lookahead_lamb: cannot be used: Lookahead hides"),
    ],
)
def test_what_cannot_be_used_says_why(name, message):
    with pytest.raises(LayerwiseError, match=message):
        check_timm_optimizer(name)
    with pytest.raises(LayerwiseError, match=message):
        timm_optimizer(name, [weight(2)], lr=0.1, momentum=0.9, weight_decay=0.0)


@pytest.mark.parametrize("name", list_optimizers("kron*"))
def test_kron_says_why_not(name):
    with pytest.raises(LayerwiseError, match="its memory grows with the fourth power of the width"):
        check_timm_optimizer(name)


def test_a_refused_value_names_the_optimizer():
    with pytest.raises(LayerwiseError, match=r"^optimizer\.name=sgd: Nesterov momentum requires a momentum"):
        timm_optimizer("sgd", [weight(2)], lr=0.1, momentum=0.0, weight_decay=0.0)
