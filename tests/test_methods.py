"""Methods of the field: the equations of each against an independent small computation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.configs import configured
from helpers.networks import plain_net
from layerwise.config import build
from layerwise.core.errors import LayerwiseError
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.runs.finished import segment_of
from layerwise.training.plan import deep_supervision

SMALL = {"model.width": 4, "model.head_width": None, "model.downsample": None, "plan.epochs": 1}
"""Of a ResNet of 7 layers, with `model.depth=14`."""


def built(*words: str) -> tuple[BlockNet, Segment, list]:
    """A ResNet of 7 layers for digits, and what its first stage trains."""
    config = configured("model=resnet_cifar", "model.depth=14", "model.width=4", "dataset=digits", *words)
    stages = build.build_agenda(config).stages()
    network = build.build_network(config, build.build_spec(config), stages)
    return network, segment_of(network, stages[0]), stages


def batch(n: int = 12) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 8, 8), torch.arange(n) % 10


# deep supervision


def test_deep_supervision_sums_weighted_losses_and_stops_no_gradient():
    config = configured("plan=deep_supervision", "objective.head_weights=0.3", "J=3")
    (stage,) = deep_supervision(3, 5)
    net, x, y = plain_net(), torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    segment = segment_of(net, stage).eval()
    build.build_objective(config, "labels", segment)(segment(x), y)["loss"].backward()
    again = plain_net().eval()
    losses = [F.cross_entropy(again(x, depth), y) for depth in (1, 2, 3)]
    (0.3 * losses[0] + 0.3 * losses[1] + losses[2]).backward()
    for ours, theirs in zip(net.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_each_head_may_have_a_weight_and_there_must_be_as_many():
    net = plain_net()
    segment = Segment(net, 0, 3, (2, 3))
    weights = ("plan=deep_supervision", "plan.blocks_per_stage=2", "J=3")
    with pytest.raises(LayerwiseError, match=r"3 weight\(s\) for 2 heads"):
        build.build_objective(configured(*weights, "objective.head_weights=[1,2,3]"), "labels", segment)
    objective = build.build_objective(configured(*weights, "objective.head_weights=[0.5,2]"), "labels", segment)
    with pytest.raises(LayerwiseError, match="has no effect: it needs plan=simultaneous or plan=deep_supervision"):
        configured("objective.head_weights=0.3")
    assert objective.weights == [0.5, 2]


def test_deep_supervision_trains(trained):
    trained("plan=deep_supervision", "objective.head_weights=[0.5,1]", epochs=1)


# SegProp


def test_segprops_stage_trains_a_block_in_front_of_the_carried_tail():
    """CE(h(b_J … b_{J−m+1}(x_j))): the tail reads x_j in the shape of x_{J−m}, averaged and filled up with zeros."""
    words = ("model.modules=7", "model.head=tail", "model.tail=3", "plan.head=carried")
    network, segment, stages = built(*words)
    assert [(stage.start, stage.stop, stage.carry_from) for stage in stages] == [
        *((0, 1, None), (1, 2, 1), (2, 3, 2), (3, 4, 3)),
    ]
    x, _ = batch()
    x1 = network.eval().features(x, 1)  # [B, 4, 8, 8], and x_4 is [B, 8, 4, 4]
    assert network.features(x, 4).shape[1:] == (8, 4, 4)
    y = torch.cat([F.avg_pool2d(x1, 2), torch.zeros(12, 4, 4, 4)], 1)
    *tail, last = [layer for layer in network.head(1) if any(True for _ in layer.parameters())]
    for unit in tail:
        y = unit(y)
    torch.testing.assert_close(segment.eval()(x)[0].scores, y.mean((2, 3)) @ last.weight.T + last.bias)
    # block and tail are the whole network: trained in front of the last block, the scores are the network's
    whole, _, _ = built("plan=joint", "model.modules=7")
    joined = [*network.blocks.state_dict().values(), *network.head(4).state_dict().values()]
    whole.load_state_dict(dict(zip(whole.state_dict(), joined, strict=True)))
    torch.testing.assert_close(network(x, 4), whole.eval()(x))


def test_segprop_trains_and_carries(trained):
    from layerwise import load

    words = ("model=resnet_cifar", "model.depth=8", "model.modules=4", "model.head=tail", "model.tail=2")
    folder = trained(*words, "plan.head=carried", J=None, **(SMALL | {"plan.epochs": 2}))
    net = load(folder)
    assert net.depths == (1, 2)
    same = [torch.equal(a, b) for a, b in zip(net.head(1).parameters(), net.head(2).parameters(), strict=True)]
    assert not any(same)  # the tail went on learning


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("model.modules=2 model.head=tail model.tail=2", "model.tail=2: model.modules=2 leaves no block"),
        ("model.tail=2", "it needs model.head=tail"),
    ],
)
def test_a_tail_leaves_a_block(words, told):
    with pytest.raises(LayerwiseError, match=told):
        configured("model=resnet_cifar", *words.split())
