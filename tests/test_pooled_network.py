"""Pooled heads, pooling behind convolutions, 2×2 whitening and norms without scale, against plain PyTorch."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.run_folders import results_of
from layerwise.data.augment import shift_and_mirror
from layerwise.models.blocknet import Segment
from layerwise.models.choices import Activation, Downsampling, Initialisation
from layerwise.models.heads import PooledHead
from layerwise.models.layers import Norm, Whitening, patches
from layerwise.models.simcnn import SimCnn
from layerwise.training.optim import OneCycle, set_learning_rate, sgd, with_shift_lr

WIDTHS, HEAD_WIDTH, CLASSES = (6, 6, 8, 8, 9, 9), 7, 10
SHIFT_ONLY = Norm(scale=False, momentum=0.4, epsilon=1e-12)


class Convolution(nn.Module):
    """Reference: convolution, 2×2 max pool, batch norm without scale, GELU."""

    def __init__(self, channels: int, width: int, pool: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(width))
        self.pool = pool
        self.mean, self.variance = torch.zeros(width), torch.ones(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, padding=1)
        x = F.max_pool2d(x, 2) if self.pool else x
        return F.gelu(F.batch_norm(x, self.mean, self.variance, None, self.bias, self.training, 0.4, 1e-12))


class Patches(nn.Module):
    """Reference: fixed 2×2 filters with a trained bias, GELU."""

    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        self.filters, self.bias = filters, nn.Parameter(torch.empty(len(filters)))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(F.conv2d(x, self.filters, self.bias))


class ReferenceHead(nn.Module):
    """Reference: two convolutions that pool from 4×4 on, maximum over positions, linear without bias, a ninth."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.first = Convolution(channels, HEAD_WIDTH, side > 3)
        side = side // 2 if side > 3 else side
        self.second = Convolution(HEAD_WIDTH, HEAD_WIDTH, side > 3)
        self.linear = nn.Linear(HEAD_WIDTH, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.second(self.first(x)).amax((2, 3))) / 9


def network(initialisation=Initialisation.dirac):
    head = PooledHead(3, HEAD_WIDTH, activation=Activation.gelu, norm=SHIFT_ONLY, head_scale=1 / 9)
    described = SimCnn(
        widths=WIDTHS,
        heads=[head] * 6,
        downsample=(1, 3, 5),
        downsampling=Downsampling.max_after,
        whiten_input=True,
        whiten_patch=2,
        whiten_shift=True,
        activation=Activation.gelu,
        initialisation=initialisation,
        norm=SHIFT_ONLY,
    )
    built = described.build((3, 32, 32), CLASSES)
    (whitening,) = (layer for layer in built.modules() if isinstance(layer, Whitening))
    rows = patches(torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double() - 0.5, 2)
    whitening.fit(rows.mean(0), rows.T.cov())
    return built, whitening


def copied(built, whitening) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The reference with the weights of a network."""
    channels = (24, *WIDTHS)
    blocks = [Convolution(channels[j], WIDTHS[j], pool=j % 2 == 0) for j in range(6)]
    blocks[0] = nn.Sequential(Patches(whitening.filters), blocks[0])
    heads = [ReferenceHead(width, side) for width, side in zip(WIDTHS, (15, 15, 7, 7, 3, 3), strict=True)]
    for ours, theirs in zip([*built.blocks, *built.heads.values()], [*blocks, *heads], strict=True):
        for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.data.copy_(parameter)
    return nn.ModuleList(blocks), nn.ModuleList(heads)


def test_forward_and_gradients_equal_those_of_the_plain_network():
    built, whitening = network()
    for parameter in built.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    blocks, heads = copied(built, whitening)
    x, y = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(2)), torch.arange(16) % CLASSES
    for j in range(6):
        features = x
        with torch.no_grad():
            for block in blocks[:j].eval():
                features = block(features)
            torch.testing.assert_close(built.eval().features(x, j), features)
        segment = Segment(built, j, j + 1, [j + 1]).train()
        (readout,) = segment(features)
        z = heads[j].train()(blocks[j].train()(features))
        torch.testing.assert_close(readout.scores, z)
        for scores in (readout.scores, z):
            F.cross_entropy(scores, y, label_smoothing=0.2).backward()
        theirs = [*blocks[j].parameters(), *heads[j].parameters()]
        for parameter, other in zip(segment.parameters(), theirs, strict=True):
            torch.testing.assert_close(parameter.grad, other.grad)
    # a step changed the running statistics alike
    torch.testing.assert_close(built.eval()(x), heads.eval()[5](nn.Sequential(*blocks.eval())(x)))


def test_norms_without_scale_keep_it_when_a_stage_trains():
    built, _ = network()
    built.requires_grad_(True)
    norms = [layer for layer in built.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 6 * 3
    assert all(
        not norm.weight.requires_grad and torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in norms
    )
    assert all(norm.bias.requires_grad for norm in norms)


def test_dirac_initialisation_reaches_pooled_heads():
    built, _ = network()
    for layer in (layer for layer in built.modules() if isinstance(layer, nn.Conv2d)):
        same = min(layer.in_channels, layer.out_channels)
        assert torch.equal(layer.weight[:same], nn.init.dirac_(torch.empty_like(layer.weight[:same])))


def test_an_even_whitening_decorrelates_the_patches_within_the_image():
    _, whitening = network()
    x = torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    z = whitening(x)
    assert z.shape == (50, 24, 31, 31)
    covariance = z[:, :12].transpose(0, 1).flatten(1).cov()
    torch.testing.assert_close(covariance, torch.eye(12), atol=2e-3, rtol=0)
    torch.testing.assert_close(z[:, 12:], -z[:, :12])


def test_shifts_of_norms_learn_faster_as_in_plain_sgd():
    """64 times the learning rate with a 64th of the weight decay, under the prototype's triangular schedule."""
    built, whitening = network()
    blocks, heads = copied(built, whitening)
    ours, theirs = Segment(built, 0, 1, [1]), nn.ModuleList([blocks[0], heads[0]])
    lr, decay, schedule = 0.75, 1.3e-3, OneCycle(warmup=0.23, final=0.07, start=0.2)
    groups = with_shift_lr([{"params": list(ours.parameters())}], ours, 64, decay)
    optimizer = sgd(groups, lr=lr, momentum=0.85, weight_decay=decay, nesterov=True)
    shifts = [blocks[0][1].bias, heads[0].first.bias, heads[0].second.bias]
    others = [p for p in theirs.parameters() if not any(p is shift for shift in shifts)]
    reference = torch.optim.SGD(
        [{"params": shifts, "weight_decay": decay / 64}, {"params": others, "weight_decay": decay}],
        *(lr, 0.85),
        nesterov=True,
    )
    x, y = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(2)), torch.arange(16) % CLASSES
    for step in range(4):
        progress = step / 4
        factor = 0.2 + 0.8 * progress / 0.23 if progress < 0.23 else 0.07 + 0.93 * (1 - progress) / 0.77
        set_learning_rate(optimizer, lr * schedule(progress))
        reference.param_groups[0]["lr"], reference.param_groups[1]["lr"] = 64 * lr * factor, lr * factor
        (readout,) = ours.train()(x)
        for scores, stepped in ((readout.scores, optimizer), (heads[0].train()(blocks[0].train()(x)), reference)):
            stepped.zero_grad()
            F.cross_entropy(scores, y, label_smoothing=0.2).backward()
            stepped.step()
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-4, atol=1e-5)


def test_reflected_crops_are_those_of_reflected_padding():
    pixels = torch.randint(0, 256, (25, 8, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    offsets = torch.arange(25)
    down, right = offsets // 5 - 2, offsets % 5 - 2
    padded = F.pad(pixels.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect").permute(0, 2, 3, 1).byte()
    for mirrored in (False, True):
        seen = shift_and_mirror(pixels, down, right, torch.full((25,), mirrored), reflect=True)
        crops = [padded[i, d + 2 : d + 10, r + 2 : r + 8] for i, (d, r) in enumerate(zip(down, right, strict=True))]
        expected = torch.stack(crops)
        assert torch.equal(seen, expected.flip(2) if mirrored else expected)


CHEAP = {
    "k": 3,
    "J": None,
    "model.width": None,
    "model.head_width": None,
    "model.downsampling": "max_after",
    "model.head": "pooled",
    "model.head_scale": 0.111,
    "model.activation": "gelu",
    "model.initialisation": "dirac",
    "model.whiten_input": "true",
    "model.whiten_patch": 2,
    "model.whiten_shift": "true",
    "model.norm_scale": "false",
    "model.norm_momentum": 0.4,
    "model.norm_epsilon": 1e-12,
}


def test_the_operations_of_the_cheap_network_on_cifar10(train_py):
    full = {"model.widths": "[64,64,128,128,128,128]", "model.head_widths": "[128,128,128,128,128,128]"}
    full |= {"dataset": "cifar10", "model.downsample": "[1,3,5]", "epochs": 2, "batch_size": 500, "cache": "none"}
    full |= {"dataset.limit": None, "dataset.limit_test": None}
    outcome = train_py(summary="json", **CHEAP | full)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["pflop"]["total_train"] == pytest.approx(0.109, abs=0.001)


def test_a_run_with_all_of_them_learns(trained):
    small = {"model.widths": "[8,8]", "model.head_widths": "[8,8]", "model.downsample": "[1]", "epochs": 12}
    small |= {"optimizer.lr": 0.5, "optimizer.shift_lr": 4, "optimizer.schedule": "onecycle", "optimizer.start": 0.2}
    small |= {"dataset.padding": 2, "dataset.border": "reflect", "precision": "fp32"}
    results = results_of(trained(**CHEAP | small))
    assert results["final"]["test_top1"] > 25
    assert results["blocks"][0]["parameters"]["block"] == 8 + 8 * 8 * 9 + 8  # the shift, W, and the norm's shift
