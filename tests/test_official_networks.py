"""The paper's blocks, heads and ensembles, written a second time from its equations, give what ours give.

Nothing here uses a layer of ours or a module of PyTorch: a weight is an array, and P, A, batch norms and ensembles are
written out. P orders the four pixels of a patch before the channels, as the official code does, so ours has the columns
of W in another order. The second implementation computes in float64, ours in float32.
"""

from __future__ import annotations

from math import ceil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from helpers.configs import configured
from layerwise.models.blocknet import BlockNet
from layerwise.models.vgg import VGG_LAYERS, Vgg

DIGITS = 3e-5
"""Largest difference of the scores, as a fraction of the largest score."""


class Weights:
    """The arrays of a module of ours in the order in which it uses them, in float64."""

    def __init__(self, module: nn.Module) -> None:
        self.layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear | _BatchNorm)]

    def next(self, *names: str) -> list[Tensor | None]:
        layer = self.layers.pop(0)
        values = [getattr(layer, name) for name in names]
        return [None if value is None else value.detach().double() for value in values]


def pixels_to_channels(x: Tensor) -> Tensor:
    """P: 2×2 pixels become channels: [B, C, H, W] → [B, 4C, H/2, W/2]."""
    return torch.cat([x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], 1)


def convolve(x: Tensor, weights: Weights, pixels: bool = False, stride: int = 1, padding: int = 1) -> Tensor:
    """W, a 3×3 convolution; `pixels`: it reads the outputs of P."""
    kernel, bias = weights.next("weight", "bias")
    if pixels:  # from ours, channel by channel, to the order of P, pixel by pixel
        kernel = kernel.unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2)
    return F.conv2d(x, kernel, bias, stride, padding)


def norm(x: Tensor, weights: Weights, training: bool) -> Tensor:
    scale, shift, mean, variance = weights.next("weight", "bias", "running_mean", "running_var")
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    scale, shift, mean, variance = (v[:, None, None] for v in (scale, shift, mean, variance))
    return scale * (x - mean) / (variance + 1e-5).sqrt() + shift


def rho(x: Tensor) -> Tensor:
    """ρ: ReLU."""
    return x.clamp_min(0)


def average(x: Tensor, pool: int, whole: bool = True) -> Tensor:
    """A: means over pool × pool windows; `whole`: windows of H // pool rows, and the rest of the rows is left out."""
    side = x.shape[2]
    edges = [(i * (side // pool), (i + 1) * (side // pool)) for i in range(pool)]
    if not whole:
        edges = [(i * side // pool, ceil((i + 1) * side / pool)) for i in range(pool)]
    rows = [torch.stack([x[:, :, a:b, c:d].mean((2, 3)) for c, d in edges], 2) for a, b in edges]
    return torch.stack(rows, 2)


def linear(x: Tensor, weights: Weights) -> Tensor:
    """L."""
    matrix, bias = weights.next("weight", "bias")
    return x.flatten(1) @ matrix.T + bias


def ensemble(z: list[Tensor]) -> Tensor:
    """Z = Σ 2^j z_j / Σ 2^j."""
    return sum(2**j * z_j for j, z_j in enumerate(z, 1)) / sum(2**j for j in range(1, len(z) + 1))


def simcnn(
    net: BlockNet,
    x: Tensor,
    k: int,
    downsample: tuple[int, ...],
    *,
    training: bool,
    image: bool = False,
    stride: bool = False,
    pool: int = 2,
) -> list[Tensor]:
    """z_1 … z_J of images: x_j = ρ W P x_{j−1}, z_j = L A (ρ W̃)^(k−1) x_j, with batch norms for k > 1."""
    scores, bn = [], k > 1
    for j, block in enumerate(net.blocks, 1):
        weights, pixels = Weights(block), (j == 1 and image) or (j in downsample and not stride)
        x = convolve(
            pixels_to_channels(x) if pixels else x, weights, pixels, stride=2 if stride and j in downsample else 1
        )
        x = rho(norm(x, weights, training) if bn else x)
        weights, y = Weights(net.head(j)), x
        for _ in range(k - 1):
            y = rho(norm(convolve(y, weights), weights, training))
        y = average(y, pool)
        scores.append(linear(norm(y, weights, training) if bn else y, weights))
    return scores


def vgg(net: BlockNet, x: Tensor, k: int, *, training: bool) -> list[Tensor]:
    """z_1 … z_8 of VGG-11; all but the last from a head on half the resolution, without padding."""
    scores, side, pooled = [], x.shape[2], (2, 3, 5, 7)
    for j, block in enumerate(net.blocks, 1):
        if j in pooled:
            x, side = maximum(x), side // 2
        weights = Weights(block)
        x = rho(norm(convolve(x, weights), weights, training))
        weights = Weights(net.head(j))
        if j == len(net.blocks):
            scores.append(linear(rho(linear(rho(linear(maximum(x), weights)), weights)), weights))
            break
        y = average(x, ceil(side / 2), whole=False)
        for _ in range(k - 1):
            y = rho(norm(convolve(y, weights, padding=0), weights, training))
        scores.append(linear(norm(average(y, 2, whole=False), weights, training), weights))
    return scores


def maximum(x: Tensor) -> Tensor:
    """The largest of each 2×2 positions."""
    return torch.stack([x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]).amax(0)


def assert_equal(net: BlockNet, x: Tensor, expected: list[Tensor], probabilities: bool) -> None:
    """Ours against the second implementation: the scores of each depth and, in eval mode, the ensembles."""
    with torch.no_grad():
        found, features = [], x
        for j, block in enumerate(net.blocks, 1):
            features = block(features)
            found.append(net.head(j)(features))
        for ours, theirs in zip(found, expected, strict=True):
            assert_close(ours, theirs)
        if not net.training:
            outputs = [z.softmax(1) if probabilities else z for z in expected]
            for j in range(1, len(outputs) + 1):
                assert_close(net.ensemble(x, j), ensemble(outputs[:j]))


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= DIGITS * float(theirs.abs().max())


@torch.no_grad()
def in_use(net: BlockNet, training: bool) -> BlockNet:
    """The network with batch norms that are not as they were made."""
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            for value in (layer.weight, layer.running_var):
                value.uniform_(0.5, 1.5)
            for value in (layer.bias, layer.running_mean):
                value.normal_(0, 0.2)
    return net.train(training)


def built(shape: tuple[int, int, int], *words: str) -> BlockNet:
    config = configured(*words)
    net = config.model.architecture(config.k, config.J, config.plan.whole).build(shape, 10)
    net.ensemble_on = config.ensemble.on
    return net


CIFAR10 = {
    "k = 1": (1, (3, 4), ["model.width=16"]),
    "k = 1, the text's blocks": (1, (2, 4), ["model.width=16", "model.downsample=[2,4]"]),
    "k = 2": (2, (3,), ["model.width=8", "model.head_width=12"]),
    "k = 3": (3, (3,), ["model.width=8", "model.head_width=12"]),
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluated", "in training"])
@pytest.mark.parametrize(("k", "downsample", "words"), CIFAR10.values(), ids=CIFAR10)
def test_cifar10(k, downsample, words, training):
    torch.manual_seed(k)
    net = in_use(built((3, 32, 32), f"k={k}", *words), training)
    x = torch.randn(4, 3, 32, 32)
    assert_equal(net, x, simcnn(net, x.double(), k, downsample, training=training), probabilities=False)


IMAGENET = {
    "k = 1, table 7": (1, (3, 4, 5), ["experiment=paper_imagenet_k1_table7"], {"stride": True, "pool": 4}),
    "k = 1, table 3": (1, (3, 4, 5, 7), ["experiment=paper_imagenet_k1_table3"], {}),
    "k = 2": (2, (3, 5, 7), ["experiment=paper_imagenet_k2", "model.head_width=4"], {}),
    "k = 3": (3, (3, 5, 7), ["experiment=paper_imagenet_k3_head512", "model.head_width=4"], {}),
}


@pytest.mark.parametrize(("k", "downsample", "words", "more"), IMAGENET.values(), ids=IMAGENET)
def test_imagenet(k, downsample, words, more):
    torch.manual_seed(k)
    net = in_use(built((3, 224, 224), *words, "model.width=4"), training=False)
    x = torch.randn(2, 3, 224, 224)
    expected = simcnn(net, x.double(), k, downsample, training=False, image=True, **more)
    assert_equal(net, x, expected, probabilities=True)


@pytest.mark.parametrize("training", [False, True], ids=["evaluated", "in training"])
def test_vgg11(training):
    torch.manual_seed(0)
    net = in_use(Vgg(VGG_LAYERS[11], k=3, width=2).build((3, 224, 224), 10), training)
    net.ensemble_on = configured("experiment=paper_imagenet_vgg11").ensemble.on
    x = torch.randn(2, 3, 224, 224)
    assert_equal(net, x, vgg(net, x.double(), 3, training=training), probabilities=True)
