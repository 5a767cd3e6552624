"""The parts of scripts/benchmark.py run and count what they say; how fast anything is no test asks."""

from __future__ import annotations

import json
import os
import sys
from functools import partial

import pytest
import torch

from helpers.commands import ROOT
from helpers.data import CPU
from helpers.photographs import write_imagenette
from helpers.processes import FORKS

sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command
from benchmarks import plain_process
from benchmarks.parts import (
    augment,
    blocks,
    cache,
    ceilings,
    decode,
    evaluate,
    full,
    logging,
    processes,
    run,
    slopes,
    small,
    startup,
)
from benchmarks.parts import compile as compiling
from benchmarks.steps import network
from benchmarks.tables import grid, markdown


@pytest.fixture(autouse=True)
def forked_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain implementation's process begins with PyTorch imported."""
    monkeypatch.setattr(plain_process.multiprocessing, "get_context", lambda method: FORKS)


def test_the_part_small_gives_rates_of_both_loops():
    figures = small.measure(CPU, rounds=1, words=("J=2", "epochs=20"))
    assert set(figures) == {"ours", "bare", "ratio", "whole_run", "whole_run_ratio"}
    assert all(value > 0 for value in figures.values())


@pytest.mark.real_data
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_part_processes_gives_rates_of_one_and_of_two():
    figures = processes.measure(rounds=1, words=("dataset.limit=512", "model.width=8", "model.head_width=8"))
    for way in ("data", "blocks"):
        row = figures[way]
        assert row["ratio"] == pytest.approx(row["two"] / row["one"]) == pytest.approx(2 * row["efficiency"])
    assert len(figures["blocks"]["utilisation"]) == 2


def test_the_part_processes_says_that_it_needs_data(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    assert processes.measure() == {}
    assert "not measured" in capsys.readouterr().out


def test_the_part_logging_gives_the_share_of_the_loggers():
    figures = logging.measure(CPU, rounds=1, words=("J=1", "epochs=2", "dataset.limit=200", "model.downsample=[]"))
    assert set(figures) == {"none", "both", "ratio", "share", "begin", "end"}
    assert all(value > 0 for value in figures.values())


def test_the_part_ceilings_gives_three_rates():
    figures = ceilings.measure(CPU, sides=(16, 32), copied_bytes=1000)
    assert {figures["float32_side"], figures["bfloat16_side"]} <= {16, 32}
    assert all(value > 0 for value in figures.values())


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


def test_the_part_blocks_compares_each_block_with_the_plain_one(monkeypatch):
    monkeypatch.setattr("benchmarks.parts.ceilings.SIDES", {"cpu": (16,)})
    figures = blocks.measure(
        CPU, nets=[blocks.Net(k=1, width=4, head_width=4, downsample=(2,), J=2)], rounds=1, seconds=0.0
    )
    assert list(figures) == ["k = 1, M = 4, j = 1", "k = 1, M = 4, j = 2"]
    for row in figures.values():
        assert row["ratio"] == pytest.approx(row["ours"] / row["plain"])
        assert row["ours_of_ceiling"] / row["plain_of_ceiling"] == pytest.approx(row["ratio"])


def test_the_part_compile_compares_steps(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    figures = compiling.measure(CPU, width=8, rounds=1, steps=1)
    assert list(figures) == ["j = 1", "j = 2", "j = 3"]
    assert all(row["compiled_ratio"] == pytest.approx(row["compiled"] / row["plain"]) for row in figures.values())


def test_the_parts_augment_and_evaluate_compare_both():
    for figures in (augment.measure(CPU, images=128, rounds=1), evaluate.measure(CPU, width=4, images=128, rounds=1)):
        assert figures["ratio"] == pytest.approx(figures["ours"] / figures["plain"])


def test_the_part_decode_compares_files_and_records(tmp_path):
    folder = write_imagenette(tmp_path) / "imagenette2-160"
    figures = decode.measure(folder, CPU, images=20, sizes=(16,), rounds=1)
    assert list(figures) == ["as they are, 16 pixels", "enlarged, 16 pixels"]
    for row in figures.values():
        assert row["ratio"] == pytest.approx(row["ours"] / row["plain"])
        assert row["records_ratio"] == pytest.approx(row["records"] / row["plain"])
    assert decode.measure(None, CPU) == {}


def test_the_part_cache_measures_memory_and_disk():
    figures = cache.measure(CPU, width=4, head_width=4, batches=1)
    assert list(figures) == ["memory", "disk"]
    for row in figures.values():
        assert all(value > 0 for value in row.values())
        assert row["write_of_step"] / row["read_of_step"] == pytest.approx(row["read_gb_s"] / row["write_gb_s"])


def test_an_exponent_is_that_of_the_power_law():
    assert slopes.exponent([1, 2, 4, 8], [3, 6, 12, 24]) == pytest.approx(1)
    assert slopes.exponent([1, 2, 4, 8], [5 * n**2 for n in (1, 2, 4, 8)]) == pytest.approx(2)


def test_the_part_slopes_fits_real_runs():
    words = ("dataset=digits", "dataset.limit=150", "dataset.limit_test=50", "model.width=4", "epochs=1")
    figures = slopes.measure(CPU, depths=(1, 2, 3), rounds=1, words=words)
    assert list(figures) == ["J = 1", "J = 2", "J = 3", "exponent", "stage 1", "stage 2", "stage 3"]
    for way in ("cached", "recomputed"):
        assert figures["J = 3"][way] == pytest.approx(sum(figures[f"stage {j}"][way] for j in (1, 2, 3)))
        assert figures["J = 3"][f"whole_{way}"] > figures["J = 3"][way]


def test_the_part_startup_compares_commands_with_importing_hydra(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))  # without CIFAR-10
    figures = startup.measure(CPU, rounds=1)
    assert {"demo_digits_seconds", "imports_seconds", "import hydra", "layerwise --help", "report"} <= set(figures)
    assert figures["import hydra"]["ratio"] == 1
    assert figures["layerwise --help"]["seconds"] < figures["demo_digits_seconds"]


@pytest.mark.real_data
def test_the_part_run_compares_whole_commands():
    figures = run.measure(CPU, images=256, epochs=1, width=4, runs=["k = 1, a cached view an epoch"])
    row = figures["k = 1, a cached view an epoch"]
    assert row["command_ratio"] == pytest.approx(row["plain_command"] / row["ours_command"])
    assert row["ours_run"] < row["ours_command"]
    assert row["plain_run"] < row["plain_command"]


@pytest.mark.real_data
def test_the_part_full_compares_the_papers_schedule_with_an_epoch_of_the_plain_one():
    tiny = ("compile=false", "epochs=1", "dataset.limit=256", "dataset.limit_test=64", "model.width=4")
    figures = full.measure(CPU, {"paper_cifar10_k3": (*tiny, "model.head_width=4")}, images=256, width=4, head_width=4)
    row = figures["paper_cifar10_k3"]
    assert row["ratio"] == pytest.approx(row["plain_run_extrapolated"] / row["run"])
    assert row["top1"] >= 0


def test_a_cpu_measures_some_parts_only_where_they_are_named(monkeypatch, capsys):
    measured = []
    for name in command.PARTS:
        monkeypatch.setitem(command.PARTS, name, lambda *_, name=name: measured.append(name) or {})
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device", "cpu"])
    command.main()
    assert set(command.PARTS) - set(measured) == {"compile", "full", "small", "logging", "processes"}
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "compile", "small", "--device", "cpu"])
    command.main()
    assert measured[-2:] == ["compile", "small"]


def test_parts_for_gpus_are_left_out_elsewhere(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "full", "--device", "cpu"])
    command.main()
    assert "full: not measured, it needs a GPU" in capsys.readouterr().out


def test_figures_become_a_table():
    assert grid({"ours": 1234.5, "plain_img": 0.12345}) == (["ours", "plain img"], [["1,234", "0.123"]])
    header, rows = grid({"j = 1": {"a": 1.0}, "j = 2": {"a": 2.0, "b": [1.0, 2.0]}, "side": 64})
    assert header == ["", "a", "b", "side"]
    assert rows == [["j = 1", "1", "", ""], ["j = 2", "2", "1, 2", ""], ["", "", "", "64"]]


FOUND = {"hardware": {"device": "cpu", "cores": 2}, "versions": {"torch": "2.8"}}


def test_saved_figures_stay_beside_new_ones_of_the_same_machine(tmp_path):
    command.save({**FOUND, "data": {"share": 0.5}, "decode": {}}, tmp_path)
    command.save({**FOUND, "vgg": {"ratio": 0.75}}, tmp_path)
    saved = tmp_path / "benchmark_cpu_2_cores.json"
    assert json.loads(saved.read_text()) == {**FOUND, "data": {"share": 0.5}, "vgg": {"ratio": 0.75}}
    text = saved.with_suffix(".md").read_text()
    assert "device cpu, cores 2." in text
    assert "## vgg" in text
    assert "| ratio |\n| --- |\n| 0.75 |" in text
    assert "## decode" not in text  # it was not measured

    command.save({**FOUND, "versions": {"torch": "2.9"}, "vgg": {"ratio": 0.7}}, tmp_path)
    assert "data" not in json.loads(saved.read_text())


def test_files_are_named_for_the_hardware():
    assert command.hardware_name({"gpu": "NVIDIA H200", "cores": 16}) == "nvidia_h200"
    assert command.hardware_name({"cores": 2}) == "cpu_2_cores"


def test_every_part_says_what_its_figures_are():
    assert all(len(caption) > 20 for caption in command.CAPTIONS.values())
    assert "Args:" not in markdown({**FOUND, "blocks": {"x": 1.0}}, command.CAPTIONS)
    apart = command.FOR_GPUS | command.ON_REQUEST
    assert all((f"\n[{n}] " if n in apart else f"\n{n} ") in command.__doc__ for n in command.PARTS)


def test_the_command_prints_and_saves_what_the_parts_give(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(command.PARTS, "cache", lambda device: {"share": 0.25})
    monkeypatch.setitem(command.PARTS, "run", lambda device, images: {"k = 3": {"images": images}})
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    words = ["cache", "run", "--run-images", "640", "--device", "cpu", "--save", "--json", str(tmp_path / "all.json")]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
    command.main()
    figures = json.loads((tmp_path / "all.json").read_text())
    assert (figures["cache"], figures["run"]) == ({"share": 0.25}, {"k = 3": {"images": 640}})
    (saved,) = (tmp_path / "results").glob("benchmark_cpu_*_cores.json")
    assert json.loads(saved.read_text()) == figures
    assert "run (0 s)" in capsys.readouterr().out
