"""Blocks, heads, downsampling and parameter counts."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.networks import simcnn, tiny_net
from layerwise.core.errors import LayerwiseError
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.models.choices import Downsampling, EnsembleOn
from layerwise.models.costs import block_costs
from layerwise.models.ensemble import ensemble
from layerwise.models.heads import CnnHead
from layerwise.models.layers import downsample_and_convolve


def test_macs_are_those_of_the_formula():
    cost = block_costs(tiny_net(), (3, 8, 8), torch.float32)[1]  # 8×8 → 4×4, 4·8 → 16 channels
    assert cost.output_shape == (16, 4, 4)
    assert cost.block_macs == 9 * 32 * 16 * 16
    assert cost.head_macs == 9 * 16 * 16 * 16 + 4 * 16 * 3
    assert cost.activation_bytes == 16 * 16 * 4


def test_invertible_downsampling_inverts():
    operator = downsample_and_convolve(5, 7, Downsampling.invertible, bias=False)[0]
    x = torch.randn(2, 5, 8, 6)
    y = operator(x)
    assert y.shape == (2, 20, 4, 3)
    assert torch.equal(F.pixel_shuffle(y, 2), x)
    assert set(y[0, :4, 0, 0].tolist()) == set(x[0, 0, :2, :2].flatten().tolist())  # a 2×2 patch becomes 4 channels


@pytest.mark.parametrize("downsampling", Downsampling)
def test_every_downsampling_halves_and_trains(downsampling):
    net = tiny_net(downsampling=downsampling)
    x = torch.randn(4, 3, 8, 8)
    assert net.features(x, 2).shape == (4, 16, 4, 4)
    net(x).sum().backward()
    trained = [*net.blocks.parameters(), *net.head(3).parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained if p.dim() > 1)


@given(
    k=st.integers(1, 5),
    width=st.integers(1, 12),
    half=st.integers(1, 9),
    batch_norm=st.booleans(),
    channels=st.integers(1, 6),
)
@settings(max_examples=40, deadline=None)
def test_heads_average_to_2x2_and_give_class_scores(k, width, half, batch_norm, channels):
    head = CnnHead(k, width, batch_norm).build((channels, 2 * half, 2 * half), 5)
    x = torch.randn(3, channels, 2 * half, 2 * half)
    position = next(i for i, layer in enumerate(head) if isinstance(layer, nn.AdaptiveAvgPool2d))
    before = head[:position](x)
    averages = head[: position + 1](x)
    quadrant = before[:, :, half:, :half].mean((2, 3))  # lower left
    assert averages.shape[2:] == (2, 2)
    torch.testing.assert_close(averages[:, :, 1, 0], quadrant)
    assert head(x).shape == (3, 5)
    assert sum(isinstance(layer, nn.Conv2d) for layer in head) == k - 1


@given(
    J=st.integers(1, 6),
    k=st.integers(1, 4),
    downsample=st.sets(st.integers(1, 6), max_size=3),
    log_size=st.integers(1, 4),
    downsampling=st.sampled_from(Downsampling),
)
@settings(max_examples=60, deadline=None)
def test_shapes_of_any_simcnn_follow_from_its_arguments(J, k, downsample, log_size, downsampling):
    size = 2**log_size

    def build() -> BlockNet:
        options = {"width": 4, "head_width": 6, "downsample": sorted(downsample), "downsampling": downsampling}
        return simcnn(k=k, J=J, batch_norm=k > 1, **options).build((3, size, size), 4)

    if max(downsample, default=0) > J or log_size - len(downsample) < 1:
        with pytest.raises(LayerwiseError, match=r"model\.downsample"):
            build()
        return
    net = build()
    for cost in block_costs(net, (3, size, size), torch.float32):
        halvings = sum(j <= cost.block for j in downsample)
        assert cost.output_shape == (4 * 2**halvings, size >> halvings, size >> halvings)
    assert net(torch.randn(2, 3, size, size)).shape == (2, 4)


def test_a_block_starts_the_same_whatever_stands_beside_it():
    short, long = tiny_net(J=2), tiny_net(J=3)
    for a, b in zip(short.blocks[1].parameters(), long.blocks[1].parameters(), strict=True):
        assert torch.equal(a, b)
    other = tiny_net(seed=1)
    assert not torch.equal(short.blocks[1][1].weight, other.blocks[1][1].weight)


def test_forward_features_and_depth_agree():
    net = tiny_net().eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(net(x), net.head(3)(net.features(x, 3)))
    assert torch.equal(net(x, depth=1), net.head(1)(net.features(x, 1)))
    assert torch.equal(Segment(net, 1, 3, (3,))(net.features(x, 1))[0].scores, net(x))


def test_class_scores_are_float32_under_autocast():
    net = tiny_net()
    with torch.autocast("cpu", torch.bfloat16):
        assert net.features(torch.randn(2, 3, 8, 8), 1).dtype == torch.bfloat16
        scores = net(torch.randn(2, 3, 8, 8))
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


def test_the_ensemble_equals_the_formula():
    z = {j: torch.randn(6, 4) for j in (1, 2, 3)}
    formula = (2 * z[1] + 4 * z[2] + 8 * z[3]) / 14
    torch.testing.assert_close(ensemble(z, EnsembleOn.logits), formula)
    p = {j: z[j].softmax(1) for j in z}
    torch.testing.assert_close(ensemble(z, EnsembleOn.probabilities), (2 * p[1] + 4 * p[2] + 8 * p[3]) / 14)
    assert torch.equal(ensemble({2: z[2]}, EnsembleOn.logits), z[2])
    net, x = tiny_net().eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(net.ensemble(x), (2 * net(x, 1) + 4 * net(x, 2) + 8 * net(x, 3)) / 14)
    torch.testing.assert_close(net.ensemble(x, depth=1), net(x, 1))
