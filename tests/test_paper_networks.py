"""The paper's networks have the paper's sizes, and its other networks are what they are called."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import vgg11_bn

from helpers.configs import configured
from layerwise.config.build.training import build_schedule
from layerwise.config.heads import heads_of
from layerwise.core.errors import LayerwiseError
from layerwise.models import timm_net
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import block_costs, total_parameters
from layerwise.models.heads import CnnHead, MlpSrHead, average
from layerwise.models.timm_net import TimmStages, TimmWhole
from layerwise.models.vgg import ALEXNET_LAYERS, VGG_LAYERS, Vgg, block_count

IMAGENET, CIFAR10 = (3, 224, 224), (3, 32, 32)


def paper_simcnn(dataset: str, k: int, **changes) -> BlockNet:
    config = configured(f"dataset={dataset}", f"k={k}", *(f"model.{key}={value}" for key, value in changes.items()))
    shape, classes = (IMAGENET, 1000) if dataset == "imagenet" else (CIFAR10, 10)
    with torch.device("meta"):
        return config.model.architecture(config.k, config.J, config.plan.whole).build(shape, classes)


def millions(network: BlockNet, shape: tuple[int, int, int]) -> float:
    return round(total_parameters(block_costs(network, shape, torch.float32)) / 1e6, 2)


def test_for_k1_block_1_alone_has_a_bias_as_in_the_official_code():
    net = paper_simcnn("cifar10", 1)
    assert biased(net) == [True, False, False, False, False]


def test_bias_sets_that_of_every_block():
    for k in (1, 2):
        for bias in (True, False):
            assert set(biased(paper_simcnn("cifar10", k, bias=bias))) == {bias}
    assert set(biased(paper_simcnn("cifar10", 2))) == {False}
    assert set(biased(paper_simcnn("cifar10", 2, batch_norm=False))) == {True}


def biased(net: BlockNet) -> list[bool]:
    return [any(isinstance(layer, nn.Conv2d) and layer.bias is not None for layer in block) for block in net.blocks]


@pytest.mark.parametrize(
    ("k", "changes", "size"),
    [
        (1, {}, 95.91),
        (2, {}, 64.40),
        (3, {}, 102.16),
        (3, {"final_head_width": 512}, 46.46),
        (3, {"final_head_width": 1024}, 60.31),
    ],
)
def test_parameter_counts_on_imagenet(k, changes, size):
    assert millions(paper_simcnn("imagenet", k, **changes), IMAGENET) == size


@pytest.mark.parametrize(
    ("table", "parameters", "sides"),
    [(7, 95_913_960, [112, 112, 56, 28, 14, 14]), (3, 606_840_808, [112, 112, 56, 28, 14, 14, 7, 7])],
)
def test_the_two_networks_of_k1_on_imagenet(table, parameters, sides):
    config = configured(f"experiment=paper_imagenet_k1_table{table}")
    with torch.device("meta"):
        net = config.model.architecture(config.k, config.J, config.plan.whole).build(IMAGENET, 1000)
    costs = block_costs(net, IMAGENET, torch.float32)
    assert total_parameters(costs) == parameters
    assert [cost.output_shape[1] for cost in costs] == sides
    assert all(biased(net))
    assert len(net.head(6)) == 3 + (table == 7)  # at 14×14 an average to 4×4 leaves out two rows


@pytest.mark.parametrize(("side", "pool", "window"), [(14, 4, 3), (7, 2, 3), (8, 2, 4)])
def test_an_average_without_overlap_is_one_of_whole_windows(side, pool, window):
    x = torch.randn(2, 3, side, side)
    expected = F.avg_pool2d(x, window)
    assert expected.shape[2] == pool
    torch.testing.assert_close(nn.Sequential(*average(x.shape[2:], pool, overlap=False))(x), expected)
    overlapping = nn.Sequential(*average(x.shape[2:], pool))(x)
    assert torch.allclose(overlapping, expected) is (side % pool == 0)


def test_vgg11_decays_after_19_and_39_of_44_epochs():
    config = configured("experiment=paper_imagenet_vgg11")
    schedule, steps = build_schedule(config), 44 * 5005
    lr = [config.optimizer.lr * schedule(step / steps) for step in range(steps)]
    drops = [step for step in range(1, steps) if lr[step] != lr[step - 1]]
    assert (config.plan.epochs, drops) == (44, [19 * 5005, 39 * 5005])
    assert [lr[0], lr[drops[0]], lr[drops[1]]] == pytest.approx([0.1, 0.01, 0.001])


def test_imagenet_networks_begin_by_moving_2x2_pixels_into_channels():
    costs = block_costs(paper_simcnn("imagenet", 3), IMAGENET, torch.float32)
    widths = [128, 128, 256, 256, 512, 512, 1024, 1024]
    sides = [112, 112, 56, 56, 28, 28, 14, 14]
    assert [cost.output_shape for cost in costs] == [(m, s, s) for m, s in zip(widths, sides, strict=True)]
    assert costs[0].block_parameters == 12 * 9 * 128 + 2 * 128


@pytest.mark.parametrize(("depth", "J"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_vgg_is_torchvisions_layer_by_layer(depth, J):
    with torch.device("meta"):
        net = Vgg(VGG_LAYERS[depth], k=3).build(IMAGENET, 1000)
        reference = getattr(__import__("torchvision").models, f"vgg{depth}_bn")()
    assert len(net.blocks) == block_count(VGG_LAYERS[depth]) == J
    ours = [tuple(p.shape) for p in (*net.blocks.parameters(), *net.head(J).parameters())]
    assert ours == [tuple(p.shape) for p in reference.parameters()]


def test_vgg11_read_by_its_last_head_computes_what_torchvisions_does():
    net = Vgg(VGG_LAYERS[11], k=3).build((3, 64, 64), 1000, depths=[8]).eval()
    reference = vgg11_bn().eval()
    reference.avgpool = nn.Identity()
    reference.classifier[0] = nn.Linear(512 * 2 * 2, 4096)
    state = [*net.blocks.state_dict().values(), *net.head(8).state_dict().values()]
    reference.load_state_dict(dict(zip(reference.state_dict(), state, strict=True)))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(x), reference(x))
    with torch.device("meta"):
        whole = Vgg(VGG_LAYERS[11], k=3).build(IMAGENET, 1000, depths=[8])
    assert millions(whole, IMAGENET) == 132.87


def test_vggs_heads_halve_the_resolution_and_do_not_pad():
    with torch.device("meta"):
        head = Vgg(VGG_LAYERS[11], k=3).build(IMAGENET, 1000).head(3)
    kinds = [type(layer).__name__ for layer in head]
    convolution = ["Conv2d", "BatchNorm2d", "ReLU"]
    pools = ["AdaptiveAvgPool2d"]
    assert kinds == [*pools, *convolution, *convolution, *pools, "BatchNorm2d", "Flatten", "FullPrecisionLinear"]
    assert head[0].output_size == 28
    assert (head[1].padding, head[1].out_channels) == ((0, 0), 512)


def test_vggs_initialisation_is_the_papers_codes():
    net = Vgg(VGG_LAYERS[11], k=3).build(CIFAR10, 10)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 50_000:
            fan_out = layer.out_channels * 9
            assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(layer, nn.Linear) and layer.weight.numel() > 10_000:
            assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            assert not layer.bias.any()


@pytest.mark.parametrize("layers", [VGG_LAYERS[11], ALEXNET_LAYERS], ids=["vgg11", "alexnet"])
def test_the_references_fit_cifar10_and_every_head_works(layers):
    net = Vgg(layers, k=3, width=4).build(CIFAR10, 10)
    x = torch.randn(2, *CIFAR10)
    for depth in net.depths:
        assert net(x, depth).shape == (2, 10)


def test_images_too_small_for_the_poolings_are_refused():
    with pytest.raises(LayerwiseError, match="8×8 pixels are too small"):
        Vgg(VGG_LAYERS[11], k=2, width=4).build((1, 8, 8), 10)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "test_vit"])
def test_a_timm_network_end_to_end_is_timms(name):
    net = TimmWhole(name).build((3, 64, 64), 7).eval()
    config = timm.get_pretrained_cfg(name)
    size = {"img_size": (64, 64)} if config.fixed_input_size else {}
    reference = timm.create_model(name, num_classes=7, **size).eval()
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in reference.parameters())
    state = {**net.blocks[0].state_dict(), **{f"head.{n}": v for n, v in net.head(1).state_dict().items()}}
    by_suffix = {
        name: next(v for n, v in state.items() if n == name or _same(n, name)) for name in reference.state_dict()
    }
    reference.load_state_dict(by_suffix)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(x), reference(x))


def _same(ours: str, theirs: str) -> bool:
    """The classifier is `fc`, `classifier` or `head` there, and the head here."""
    return ours.startswith("head.") and theirs in (ours, ours.replace("head", "fc"), ours.replace("head", "classifier"))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_a_timm_network_is_cut_where_timm_says(name):
    net = TimmStages(name, CnnHead(2, 8)).build((3, 64, 64), 5).eval()
    body = timm.create_model(name, features_only=True)
    body.load_state_dict(dict(zip(body.state_dict(), net.blocks.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 64, 64)
    for j, expected in enumerate(body.eval()(x), 1):
        torch.testing.assert_close(net.features(x, j), expected)
        assert net(x, j).shape == (2, 5)
    assert timm_net.block_count(name, {}) == len(net.blocks) == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "timm has no such network. Did you mean resnet18"),
        ("legacy_xception", "cannot be cut into blocks: .* plan=joint"),
    ],
)
def test_timm_networks_that_cannot_be_used_say_why(name, message):
    with pytest.raises(LayerwiseError, match=message):
        TimmStages(name, CnnHead(2)).build(IMAGENET, 5)


def test_mlp_sr_is_pooled_convolved_and_connected():
    head = MlpSrHead().build((8, 16, 16), 10)
    assert head[0].output_size == 4
    assert [layer.kernel_size for layer in head if isinstance(layer, nn.Conv2d)] == [(1, 1)] * 3
    assert [layer.out_features for layer in head if isinstance(layer, nn.Linear)] == [32, 32, 32, 10]
    assert head(torch.randn(3, 8, 16, 16)).shape == (3, 10)


@pytest.mark.parametrize("head", heads_of("simcnn"))
def test_every_head_stands_behind_every_block_of_a_simcnn(head):
    config = configured("k=2", "model.width=16", f"model.head={head}")
    net = config.model.architecture(config.k, config.J, config.plan.whole).build(CIFAR10, 10)
    x = torch.randn(2, *CIFAR10)
    for depth in net.depths:
        assert net(x, depth).shape == (2, 10)
