"""The whitening before block 1: what it does to the training images, and that it stays as it was fitted."""

from __future__ import annotations

import pytest
import torch

import layerwise
from helpers.data import CPU, tiny_spec
from helpers.networks import plain_net
from helpers.run_folders import numbers, results_of
from layerwise.core.files import load_tree
from layerwise.data.dataset import Dataset, Resident
from layerwise.models.layers import Whitening, patches
from layerwise.training import beginnings
from layerwise.training.beginnings import whiten_input


def smooth_data(order: torch.Tensor | None = None) -> Dataset:
    """200 images whose neighbouring pixels are alike."""
    coarse = torch.rand(200, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    images = (torch.nn.functional.interpolate(coarse, size=8, mode="bilinear") * 255).byte().permute(0, 2, 3, 1)
    split = Resident(images.contiguous(), torch.arange(200) % 3, CPU)
    if order is not None:
        split = split.take(order)
    return Dataset(tiny_spec(), {"train": split, "test": split}, None, seed=0, device=CPU)


@pytest.mark.parametrize("input_downsample", [False, True])
def test_whitened_patches_are_uncorrelated_and_of_unit_variance(input_downsample):
    data, net = smooth_data(), plain_net(whiten_input=True, input_downsample=input_downsample, downsample=[])
    whiten_input(net, data)
    x = next(iter(data.batches("train", torch.arange(200), 200))).inputs
    x = net.blocks[0][0](x) if input_downsample else x
    layer = next(layer for layer in net.blocks[0] if isinstance(layer, Whitening))
    whole = layer(x)[:, :, 1:-1, 1:-1].transpose(0, 1).flatten(1)  # within the images
    half = len(whole) // 2
    torch.testing.assert_close(whole[:half], -whole[half:])
    torch.testing.assert_close(whole.mean(1), torch.zeros(2 * half), atol=1e-4, rtol=0)
    variances = torch.linalg.eigvalsh(patches(x.double(), 3).T.cov())
    expected = variances / (variances + 5e-4 * variances.mean())
    torch.testing.assert_close(whole[:half].double().cov(), expected.diag(), atol=2e-2, rtol=0)
    assert expected[-1] > 0.99


def test_it_is_a_function_of_the_data_and_not_of_their_order(monkeypatch):
    fitted = []
    for images in (beginnings.WHITENED_IMAGES, 100):
        monkeypatch.setattr(beginnings, "WHITENED_IMAGES", images)
        for order in (None, torch.randperm(200)):
            net = plain_net(whiten_input=True)
            whiten_input(net, smooth_data(order))
            fitted.append(net.blocks[0][0].filters)
    torch.testing.assert_close(fitted[0], fitted[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted[2], fitted[3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fitted[0], fitted[2], rtol=1e-2)


def test_a_network_without_it_is_left_alone():
    net = plain_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    whiten_input(net, smooth_data())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


OPTIONS = {"model.whiten_input": "true", "model.activation": "gelu", "plan.finetune.epochs": 1}


@pytest.mark.usefixtures("save_each_epoch")
def test_a_run_keeps_it_to_the_end(trained):
    folder = trained(**OPTIONS)
    trees = [load_tree(path) for path in sorted((folder / "checkpoints").glob("stage_?.safetensors"))]
    assert len(trees) == 3  # two blocks and the fine-tuning
    first, _, last = (tree["segment"] for tree in trees)
    assert first["blocks.0.0.filters"].any()
    assert torch.equal(first["blocks.0.0.filters"], last["blocks.0.0.filters"])
    loaded = layerwise.load(folder)
    assert torch.equal(loaded.blocks[0][0].filters, first["blocks.0.0.filters"])
    rows = numbers(results_of(folder))
    assert rows[0]["parameters"]["block"] == 18 * 9 * 8 + 16  # what is fixed does not count
