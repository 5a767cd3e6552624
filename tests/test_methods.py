"""Methods of the field: the equations of each against an independent small computation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.configs import configured
from helpers.networks import plain_net
from layerwise.config import build
from layerwise.core.errors import LayerwiseError
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.models.local_heads import GoodnessHead
from layerwise.models.readout import Readout
from layerwise.runs.finished import segment_of
from layerwise.training.methods import InfoPro, contrastive_loss
from layerwise.training.objectives import LocalLoss
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
        configured(*weights, "objective.head_weights=[1,2,3]")
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


# InfoPro


def test_infopro_is_the_weighted_reconstruction_and_label_loss_of_each_module():
    words = ("plan=simultaneous", "model.modules=4", "model.head=infopro")
    weights = ("objective.decoder_weights=[5,1]", "objective.label_weights=[0.1,0.7]")
    network, segment, _ = built(*words)
    x, y = batch()
    objective = build.build_objective(configured("model=resnet_cifar", *words, *weights), "labels", segment)
    x0 = torch.rand_like(x)  # without data the inputs are taken for pixels
    terms = objective(segment.train()(x0), y)
    losses, features = [], x0
    for depth in (1, 2, 3, 4):
        features = network.blocks[depth - 1](features)
        head, part = network.head(depth), (depth - 1) / 2
        if depth == 4:
            losses.append(F.cross_entropy(head(features), y))
            break
        y_loss = F.cross_entropy(head.auxiliary(features), y)
        _, conv1, norm, _, conv2 = head.decoder
        big = F.interpolate(features, size=(8, 8), mode="bilinear", align_corners=True)
        pixels = conv2(norm(conv1(big)).clamp_min(0)).double().sigmoid()  # float32 would round to 1
        error = -(x0 * pixels.log() + (1 - x0) * (1 - pixels).log()).mean().float()
        losses.append((5 - 4 * part) * error + (0.1 + 0.6 * part) * y_loss)
    torch.testing.assert_close(torch.stack(terms["means"]["loss"]), torch.stack(losses).detach())
    torch.testing.assert_close(terms["loss"], torch.stack(losses).sum())
    assert conv1.out_channels == 12


def test_infopro_compares_with_the_pixels_behind_the_standardised_images():
    objective = InfoPro(LocalLoss(), [1.0], [0.0], torch.tensor([0.25]), torch.tensor([0.5]))
    inputs, logits = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    readout = Readout(torch.randn(3, 10), None, logits, inputs)
    wanted = F.binary_cross_entropy(logits.sigmoid(), (0.5 + 0.25 * inputs).clamp(0, 1))
    torch.testing.assert_close(objective([readout], torch.arange(3))["loss"], wanted)


def test_the_contrastive_loss_is_that_of_the_formula():
    embedding, y = torch.randn(7, 5), torch.tensor([0, 1, 0, 2, 1, 0, 3])
    z = embedding / embedding.norm(dim=1, keepdim=True)
    losses = []
    for i in range(7):
        others = [a for a in range(7) if a != i]
        whole = sum(float((z[i] @ z[a] / 0.07).exp()) for a in others)
        positives = [p for p in others if y[p] == y[i]]
        shares = [float((z[i] @ z[p] / 0.07).exp()) / whole for p in positives]
        losses.append(-sum(math.log(share) for share in shares) / max(len(shares), 1))
    assert float(contrastive_loss(embedding, y)) == pytest.approx(sum(losses) / 7, rel=1e-4)


def test_with_contrast_no_block_learns_from_the_class_scores():
    network, segment, _ = built("plan=simultaneous", "model.modules=3", "model.head=infopro_contrast")
    x, y = batch()
    readout = segment.train()(x)[0]
    assert readout.embedding.shape == (12, 128)
    F.cross_entropy(readout.scores, y).backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning == {"heads.1.classifier.weight", "heads.1.classifier.bias"}


@pytest.mark.parametrize("head", ["infopro", "infopro_contrast"])
def test_infopro_trains(trained, head):
    trained("model=resnet_cifar", "model.depth=14", "plan=simultaneous", f"model.head={head}", J=3, **SMALL)


# TRGL


def test_trgl_adds_the_squares_of_the_residuals_over_twice_tau():
    words = ("plan=simultaneous", "model.modules=2", "objective.transport=0.3")
    network, segment, _ = built(*words)
    x, y = batch()
    config = configured("model=resnet_cifar", *words)
    terms = build.build_objective(config, "labels", segment)(segment.train()(x), y)
    loss, features = torch.zeros(()), x
    for block, head, tau in zip(network.blocks, network.heads.values(), (0.15, 0.3), strict=True):
        for layer in block:
            if hasattr(layer, "residual"):
                r = layer.residual(features)
                loss = loss + (r**2).mean() / (2 * tau)
                features = (layer.carry(features) + r).clamp_min(0)
            else:
                features = layer(features)
        loss = loss + F.cross_entropy(head(features), y)
    torch.testing.assert_close(terms["loss"], loss)
    assert all(readout.moved is None for readout in segment.eval()(x))


def test_trgl_needs_residuals_and_trains(trained):
    config = configured("objective.transport=1")
    with pytest.raises(LayerwiseError, match=r"objective\.transport=1.*model=simcnn has no residual units"):
        build.build_network(config, build.build_spec(config), build.build_agenda(config).stages())
    trained("model=resnet_cifar", "model.depth=14", "objective.transport=10", J=2, **SMALL)


# CwC


def test_goodness_is_the_mean_square_of_a_group_of_channels():
    x = torch.randn(4, 6, 3, 5)
    wanted = torch.stack([x[:, 2 * c : 2 * c + 2].pow(2).sum((1, 2, 3)) / 30 for c in range(3)], 1)
    torch.testing.assert_close(GoodnessHead().build((6, 3, 5), 3)(x), wanted)
    uneven = GoodnessHead().build((7, 3, 5), 3)(torch.cat([x, x[:, :1]], 1))  # groups of 3, 2 and 2 channels
    torch.testing.assert_close(uneven[:, 0], x[:, :3].pow(2).mean((1, 2, 3)))
    with pytest.raises(LayerwiseError, match="the 6 channels of a block are too few for 7 classes"):
        GoodnessHead().build((6, 3, 5), 7)
    torch.testing.assert_close(uneven[:, 2], torch.cat([x[:, 5:], x[:, :1]], 1).pow(2).mean((1, 2, 3)))


def test_cwc_trains_blocks_and_no_head(trained):
    folder = trained("model.head=goodness", "optimizer=adam", "k=1", **{"model.head_width": None, "model.width": 10})
    from layerwise import load

    assert [sum(p.numel() for p in load(folder).head(depth).parameters()) for depth in (1, 2)] == [0, 0]


# Mono-Forward


def test_mono_forward_is_the_perceptron_with_k_1():
    """CE(M · flatten(a), y) of each layer's activations a."""
    config = configured("model=mlp", "k=1", "J=2", "model.width=6", "dataset=digits")
    stages = build.build_agenda(config).stages()
    network = build.build_network(config, build.build_spec(config), stages)
    x, y = batch()
    first, last = (network.blocks[0], network.head(1))
    (W, b), (M, c) = (list(module.parameters()) for module in (first, last))
    a = (x.flatten(1) @ W.T + b).clamp_min(0)
    segment = segment_of(network, stages[0])
    loss = build.build_objective(config, "labels", segment)(segment(x), y)["loss"]
    torch.testing.assert_close(loss, F.cross_entropy(a @ M.T + c, y))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("model.head=infopro", "plan=simultaneous"),
        ("model.head=infopro plan=simultaneous distributed.parallel=blocks", "only the first process has the images"),
        ("objective.label_weights=[1,2]", "it needs model.head=infopro or infopro_contrast"),
        ("model.head=infopro plan=simultaneous objective.label_weights=[1]", "must be two numbers"),
        ("model.head=goodness objective.single_logit=true", "cannot be combined with model.head=goodness"),
    ],
)
def test_what_a_method_cannot_be_combined_with_is_refused(words, told):
    with pytest.raises(LayerwiseError, match=told):
        configured("model=resnet_cifar", *words.split())
