"""The parts of the benchmark run and count what they say, and the plain implementation that they compare with learns.

How fast anything is no test asks.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers.commands import ROOT
from helpers.configs import configured
from helpers.data import CPU
from helpers.photographs import write_imagenette
from helpers.processes import FORKS
from layerwise.config import build
from layerwise.config.paper import simcnn_values

sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command
from benchmarks import plain, plain_process
from benchmarks.parts import blocks, ceilings, decode, slopes
from benchmarks.steps import network
from benchmarks.tables import grid, markdown

TINY = {
    "ceilings": {"sides": (16, 32), "copied_bytes": 1000},
    "blocks": {"nets": [blocks.Net(k=1, width=4, head_width=4, downsample=(2,), J=2)], "rounds": 1, "seconds": 0.0},
    "compile": {"width": 8, "rounds": 1, "steps": 1},
    "augment": {"images": 128, "rounds": 1},
    "cache": {"width": 4, "head_width": 4, "batches": 1},
    "evaluate": {"width": 4, "images": 128, "rounds": 1},
    "slopes": {
        "depths": (1, 2, 3),
        "rounds": 1,
        "words": ("dataset=digits", "dataset.limit=150", "dataset.limit_test=50", "model.width=4", "epochs=1"),
    },
    "startup": {"rounds": 1},
    "small": {"rounds": 1, "words": ("J=2", "epochs=20")},
    "logging": {"rounds": 1, "words": ("J=1", "epochs=2", "dataset.limit=200", "model.downsample=[]")},
}
"""Arguments of the parts that need no data."""

ON_CIFAR10 = {
    "run": {"images": 256, "epochs": 1, "width": 4, "runs": ["k = 1, a cached view an epoch"]},
    "full": {
        "runs": {
            "paper_cifar10_k3": (
                *("compile=false", "epochs=1", "dataset.limit=256", "dataset.limit_test=64", "model.width=4"),
                "model.head_width=4",
            )
        },
        "images": 256,
        "width": 4,
        "head_width": 4,
    },
}


@pytest.fixture(autouse=True)
def tiny_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain implementation's process begins with PyTorch imported, nothing is compiled, and matrices are small."""
    monkeypatch.setattr(plain_process.multiprocessing, "get_context", lambda method: FORKS)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(ceilings, "SIDES", {"cpu": (16,)})


def rows_of(figures: dict) -> list[dict]:
    """The groups of figures, and those that stand alone."""
    groups = [value for value in figures.values() if isinstance(value, dict)]
    return [*groups, {name: value for name, value in figures.items() if not isinstance(value, dict)}]


def assert_plausible(figures: dict) -> None:
    """All figures are positive, and ratios are those of the figures beside them."""
    assert figures
    for row in rows_of(figures):
        assert all(value > 0 for name, value in row.items() if "exponent" not in name and "recomputed" not in name)
        if {"ours", "plain", "ratio"} <= set(row):
            assert row["ratio"] == pytest.approx(row["ours"] / row["plain"])


@pytest.mark.slow
@pytest.mark.parametrize("part", TINY)
def test_a_part_gives_its_figures(part, monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))  # without CIFAR-10
    figures = command.PARTS[part](CPU, **TINY[part])
    if part == "slopes":  # small runs may have any slope
        assert figures.pop("exponent")
    assert_plausible(figures)


def test_the_part_decode_compares_files_and_records(tmp_path):
    folder = write_imagenette(tmp_path) / "imagenette2-160"
    figures = decode.measure(folder, CPU, images=20, sizes=(16,), rounds=1)
    assert list(figures) == ["as they are, 16 pixels", "enlarged, 16 pixels"]
    assert_plausible(figures)


@pytest.mark.real_data
@pytest.mark.parametrize("part", ON_CIFAR10)
def test_a_part_on_cifar10_compares_whole_commands(part):
    assert_plausible(command.PARTS[part](CPU, **ON_CIFAR10[part]))


@pytest.mark.real_data
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_part_processes_gives_rates_of_one_and_of_two():
    words = ("dataset.limit=512", "model.width=8", "model.head_width=8")
    figures = command.PARTS["processes"](rounds=1, words=words)
    assert len(figures["blocks"].pop("utilisation")) == 2
    assert_plausible(figures)


def test_parts_that_lack_something_say_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "run", "memory", "processes", "decode", "full", "--device=cpu"])
    command.main()
    assert capsys.readouterr().out.count("not measured") == 5


# What is counted


def test_a_product_counts_its_operations():
    product = ceilings.fastest_product(torch.float32, CPU, sides=(8,))
    product(1)
    assert product.operations == 2 * 8**3
    torch.testing.assert_close(product.c, product.a @ product.b)


def test_the_operations_of_a_step_are_those_of_its_layers():
    net = network(width=4, head_width=6, J=2, k=1)  # convolutions 3 → 4 and 4 → 4 at 32×32, linear heads 16 → 10
    first, second, head = 9 * 3 * 4 * 32**2, 9 * 4 * 4 * 32**2, 16 * 10
    # a head's and a later layer's backward is twice its forward; the inputs of a stage need no gradient
    assert blocks.operations(net) == [2 * (2 * first + 3 * head), 2 * (first + 2 * second + 3 * head)]


def test_an_exponent_is_that_of_the_power_law():
    assert slopes.exponent([1, 2, 4, 8], [5 * n**2 for n in (1, 2, 4, 8)]) == pytest.approx(2)


# The command


def test_a_cpu_measures_some_parts_only_where_they_are_named(monkeypatch):
    measured = []
    for name in command.PARTS:
        monkeypatch.setitem(command.PARTS, name, lambda *_, name=name: measured.append(name) or {})
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device", "cpu"])
    command.main()
    assert set(command.PARTS) - set(measured) == {"compile", "full", "small", "logging", "processes"}


def test_the_command_prints_and_saves_what_the_parts_give_beside_earlier_figures(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(command.PARTS, "cache", lambda device: {"share": 0.25})
    monkeypatch.setitem(command.PARTS, "run", lambda device, images: {"k = 3": {"images": images}})
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    for words in (["cache"], ["run", "--run-images", "640", "--json", str(tmp_path / "run.json")]):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *words, "--device", "cpu", "--save"])
        command.main()
    assert "run (0 s)" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "run.json").read_text())) == {"hardware", "versions", "run"}
    (saved,) = (tmp_path / "results").glob("benchmark_cpu_*_cores_*.json")
    figures = json.loads(saved.read_text())
    assert (figures["cache"], figures["run"]) == ({"share": 0.25}, {"k = 3": {"images": 640}})
    assert "## cache" in saved.with_suffix(".md").read_text()
    command.save({**figures, "versions": {"torch": "2.9"}, "cache": {}}, tmp_path / "results")
    assert "cache" not in json.loads(saved.read_text())  # of other versions, and not measured


def test_figures_become_a_table():
    assert grid({"ours": 1234.5, "plain_img": 0.12345}) == (["ours", "plain img"], [["1,234", "0.123"]])
    header, rows = grid({"j = 1": {"a": 1.0}, "j = 2": {"a": 2.0, "b": [1.0, 2.0]}, "side": 64})
    assert header == ["", "a", "b", "side"]
    assert rows == [["j = 1", "1", "", ""], ["j = 2", "2", "1, 2", ""], ["", "", "", "64"]]
    assert command.hardware_name({"gpu": "NVIDIA H200", "cores": 16}) == "nvidia_h200"
    assert command.hardware_name({"cores": 2, "instructions": "AVX512 BF16"}) == "cpu_2_cores_avx512_bf16"


def test_every_part_says_what_its_figures_are():
    assert all(len(caption) > 20 for caption in command.CAPTIONS.values())
    found = {"hardware": {"device": "cpu"}, "versions": {"torch": "2.8"}, "blocks": {"x": 1.0}}
    assert "Args:" not in markdown(found, command.CAPTIONS)
    apart = command.FOR_GPUS | command.ON_REQUEST
    assert all((f"\n[{n}] " if n in apart else f"\n{n} ") in command.__doc__ for n in command.PARTS)


# The plain implementation


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_plain_network_is_ours(k):
    values = simcnn_values(k)
    net = plain.network(k, values.J, values.width, values.head_width, values.downsample)
    config = configured(f"k={k}")
    ours = build.build_network(config, build.build_spec(config), build.build_agenda(config).stages())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(net.eval()(x), ours.eval()(x))  # the same initialisation, too


def coloured(n: int, transform) -> list[tuple[torch.Tensor, int]]:
    """PIL images of CIFAR-10's shape whose class is their colour, behind a transform."""
    noise = np.random.default_rng(0)
    samples = []
    for i in range(n):
        colour = np.array([25 * (i % 10), 250 - 25 * (i % 10), 10 * (i % 10)])
        pixels = np.clip(colour + noise.integers(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        samples.append((transform(Image.fromarray(pixels)), i % 10))
    return samples


def test_the_plain_implementation_learns_and_trains_only_the_present_block(capsys):
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
