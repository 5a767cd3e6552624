"""benchmarks/plain.py, against which layerwise is measured, trains the same network and learns."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers.commands import ROOT
from helpers.configs import configured
from helpers.data import CPU
from layerwise.config import build
from layerwise.config.paper import simcnn_values
from layerwise.models.blocknet import count_parameters

sys.path.insert(0, str(ROOT))

from benchmarks import plain


def coloured(n: int, transform) -> list[tuple[torch.Tensor, int]]:
    """PIL images of CIFAR-10's shape whose class is their colour, behind a transform."""
    noise = np.random.default_rng(0)
    samples = []
    for i in range(n):
        colour = np.array([25 * (i % 10), 250 - 25 * (i % 10), 10 * (i % 10)])
        pixels = np.clip(colour + noise.integers(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        samples.append((transform(Image.fromarray(pixels)), i % 10))
    return samples


@pytest.mark.parametrize("k", [1, 2, 3])
def test_its_network_is_ours(k):
    values = simcnn_values("cifar10", k)
    net = plain.network(k, values.J, values.width, values.head_width, values.downsample)
    config = configured(f"k={k}")
    ours = build.build_network(config, build.build_spec(config), build.build_agenda(config).stages())
    assert count_parameters(net) == count_parameters(ours)
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(net.eval()(x), ours.eval()(x))  # the same initialisation, too


def test_it_learns_and_only_the_present_block(capsys):
    torch.manual_seed(0)
    net = plain.network(k=2, J=2, width=8, head_width=8, downsample=[2])
    first_of = {name: value.clone() for name, value in net.state_dict().items()}
    trained = DataLoader(coloured(400, plain.TRAIN), 20, shuffle=True)
    rows = plain.train(net, trained, DataLoader(coloured(100, plain.TEST), 50), epochs=3, device=CPU)
    assert [row["test"] > 40 for row in rows] == [True, True]
    assert rows[1]["ensemble"] > 40
    assert capsys.readouterr().out.count("block 2, epoch") == 3
    assert not torch.equal(net.state_dict()["blocks.1.1.weight"], first_of["blocks.1.1.weight"])

    block_1 = {name: value.clone() for name, value in net.blocks[0].state_dict().items()}
    plain.train_epoch(net, 2, plain.sgd(net, 2, 0.1), trained, CPU)
    assert all(torch.equal(value, block_1[name]) for name, value in net.blocks[0].state_dict().items())


def test_the_ensemble_weighs_by_powers_of_two():
    z_1, z_2 = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert plain.ensemble_top1([z_1, z_2], torch.tensor([0])) == 100
    assert plain.ensemble_top1([z_1, 2 * z_2], torch.tensor([1])) == 100


@pytest.mark.real_data
def test_the_command_trains_on_cifar10(monkeypatch, tmp_path, capsys):
    words = ["--J", "2", "--width", "4", "--head-width", "4", "--downsample", "--epochs", "1", "--workers", "0"]
    words += ["--limit", "200", "--limit-test", "100", "--json", str(tmp_path / "plain.json")]
    monkeypatch.setattr(sys, "argv", ["plain.py", *words])
    plain.main()
    results = json.loads((tmp_path / "plain.json").read_text())
    assert len(results["blocks"]) == 2
    assert results["seconds"] > sum(row["seconds"] for row in results["blocks"])
