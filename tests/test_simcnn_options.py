"""What a SimCNN can be beside the paper's: widths, activations and initialisations of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.configs import configured
from helpers.networks import plain_net
from layerwise.config.resolve import resolve
from layerwise.models.choices import Activation, Initialisation


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def test_each_block_and_head_has_the_width_that_is_given():
    net = plain_net(k=3, width=[6, 4, 5], head_width=[3, 7, 2])
    assert [convolutions(block)[0].out_channels for block in net.blocks] == [6, 4, 5]
    assert [[c.out_channels for c in convolutions(net.head(d))] for d in (1, 2, 3)] == [[3, 3], [7, 7], [2, 2]]
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 3)


def test_the_papers_widths_as_a_list_give_the_same_network():
    by_first, by_list = plain_net(), plain_net(width=[8, 16, 16], head_width=[8, 16, 16])
    for name, weight in by_first.state_dict().items():
        assert torch.equal(weight, by_list.state_dict()[name]), name


def resolved(*overrides: str):
    config = configured(*overrides)
    again = resolve(config)
    assert again == config  # as a run's saved configuration is read
    return config


def test_widths_say_how_many_blocks_there_are_and_how_wide_heads_are():
    config = resolved("k=2", "model.widths=[256,64,128]")
    assert (config.J, config.model.width) == (3, None)
    assert (config.model.head_width, config.model.head_widths) == (None, [512, 128, 256])  # the paper: 128 and 256
    config = resolved("k=2", "model.widths=[256,64,128]", "model.head_width=100")
    assert (config.model.head_width, config.model.head_widths) == (100, None)
    config = resolved("k=2", "model.head_widths=[4,5,6]", "J=3")
    assert (config.model.width, config.model.head_width, config.model.head_widths) == (128, None, [4, 5, 6])
    assert resolved("model.widths=[8,8]", "model.head=predsim").model.head_widths is None


@pytest.mark.parametrize("activation", [Activation.gelu, Activation.silu])
def test_the_activation_is_that_of_blocks_and_heads(activation):
    kind = {Activation.gelu: nn.GELU, Activation.silu: nn.SiLU}[activation]
    net = plain_net(activation=activation)
    assert not any(isinstance(layer, nn.ReLU) for layer in net.modules())
    assert all(isinstance(block[-1], kind) for block in net.blocks)
    assert all(any(isinstance(layer, kind) for layer in head) for head in net.heads.values())


def test_he_kernels_have_the_deviation_of_their_fan_out():
    net = plain_net(width=64, head_width=64, initialisation=Initialisation.he, batch_norm=False)
    for layer in convolutions(net):
        assert layer.weight.detach().std().item() == pytest.approx((2 / (9 * layer.out_channels)) ** 0.5, rel=0.1)
        assert not layer.bias.any()


def test_dirac_kernels_copy_their_input_and_leave_the_rest():
    net, plain = (
        plain_net(J=4, initialisation=initialisation, downsample=[2], batch_norm=False)
        for initialisation in (Initialisation.dirac, Initialisation.pytorch)
    )
    for block, before in zip(net.blocks, plain.blocks, strict=True):
        (ours,), (theirs,) = convolutions(block), convolutions(before)
        same = min(ours.in_channels, ours.out_channels)
        identity = nn.init.dirac_(torch.empty_like(theirs.weight[:same]))
        assert torch.equal(ours.weight[:same], identity)
        assert torch.equal(ours.weight[same:], theirs.weight[same:])
    for head, before in zip(net.heads.values(), plain.heads.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(head.parameters(), before.parameters(), strict=True))
