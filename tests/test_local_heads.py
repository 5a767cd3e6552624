"""Heads of simultaneous local training: their equations, written out a second time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.configs import configured
from layerwise.config import build
from layerwise.models.blocknet import BlockNet, count_parameters
from layerwise.models.local_heads import OneConvolutionHead
from layerwise.models.resnet_cifar import Unit, layer_shapes
from layerwise.models.unit_heads import auglocal_units

RESNET = ("model=resnet_cifar", "plan=simultaneous")


def network(*words: str) -> BlockNet:
    config = configured(*RESNET, *words)
    return build.build_network(config, build.build_spec(config), build.build_agenda(config).stages())


@pytest.mark.parametrize(("channels", "width", "stride"), [(16, 32, 2), (32, 64, 2), (64, 64, 1)])
def test_the_1c2f_head_is_that_of_infopros_tables(channels, width, stride):
    head = OneConvolutionHead(most=64).build((channels, 8, 8), 10)
    x = torch.randn(5, channels, 8, 8)
    kernel, scale, shift, w1, b1, w2, b2 = head.parameters()
    assert kernel.shape == (width, channels, 3, 3)
    y = F.conv2d(x, kernel, stride=stride, padding=1)
    y = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    y = (y * scale[:, None, None] + shift[:, None, None]).clamp_min(0).mean((2, 3))
    torch.testing.assert_close(head(x), (y @ w1.T + b1).clamp_min(0) @ w2.T + b2, atol=1e-5, rtol=1e-4)
    assert w1.shape == (128, width)
    assert w2.shape == (10, 128)


def test_a_resnet_has_1c2f_heads_before_its_own_classifier():
    net = network("model.modules=16", "model.head=aux_1c2f")
    assert [net.head(depth)[0].out_channels for depth in (1, 6, 7, 11, 12, 15)] == [32, 32, 64, 64, 64, 64]
    assert count_parameters(net.head(16)) == 64 * 10 + 10


def test_auglocal_takes_layers_at_equal_distances():
    """ResNet-32, d = 2, K' = 14: the formula of the paper at some modules, computed by hand."""
    layers = layer_shapes(5, 16)  # stem and units 1 … 15; the widths double at units 6 and 11
    # l = 0: r = 0, two units like layers round(7.5) = 8 and 15
    assert auglocal_units(layers, 1, 2, 0, 14) == [(32, 2), (64, 2)]
    # l = 6: r = 0.25, round(2 · 0.75 + 0.25) = 2 units like layers round(10.5) = 10 and 15
    assert auglocal_units(layers, 7, 2, 6, 14) == [(32, 1), (64, 2)]
    # l = 12: r = 0.5, round(1.5) = 2 units like layers round(13.5) = 14 and 15
    assert auglocal_units(layers, 13, 2, 12, 14) == [(64, 1), (64, 1)]
    # d = 1: one unit like the last layer, which is two halvings away and makes one of them
    assert auglocal_units(layers, 1, 1, 0, 15) == [(64, 2)]
    # no more units than layers are left, and two modules
    assert auglocal_units(layers, 15, 5, 0, 2) == [(64, 1)]


def test_an_auglocal_network_builds_units_and_a_linear_layer():
    sizes = ",".join(["1"] * 13 + ["3"])
    net = network(f"model.modules=[{sizes}]", "model.head=auglocal", "model.head_depth=2")
    for depth in range(1, 14):
        *units, average, _, last = net.head(depth)
        assert len(units) == 2
        assert all(isinstance(unit, Unit) for unit in units)
        assert isinstance(average, nn.AdaptiveAvgPool2d)
        assert last.in_features == 64
        assert net(torch.randn(2, 3, 32, 32), depth).shape == (2, 10)
    assert len(net.head(14)) == 3  # average, flatten, linear: the network's own


def test_auglocal_trains(trained):
    small = {"model.width": 4, "model.head_width": None, "model.downsample": None, "plan.epochs": 1}
    trained(*RESNET, "model.depth=8", "model.head=auglocal", J=3, **small)
