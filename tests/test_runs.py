"""Whole runs through train.py: results, resume, caches, interruption."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import yaml

import layerwise
import layerwise.core.errors
from helpers.commands import ROOT
from helpers.processes import start_and_train
from helpers.run_folders import corrupt, metrics_of, numbers, only_run, results_of
from layerwise.core.files import load_tree
from layerwise.core.machine import HOST, MemoryGrowth, peak_memory_mb
from layerwise.data.factory import load
from layerwise.data.toy import Digits


def test_a_run_leaves_the_files_of_the_contract(train_py, tmp_path):
    outcome = train_py()
    assert outcome.code == 0
    folder = only_run(tmp_path)
    assert str(folder) in outcome.out
    results = results_of(folder)
    assert results["schema"] == 1
    assert results["status"] == "completed"
    assert (results["model"], results["dataset"], results["plan"]) == ("simcnn", "digits", "greedy")
    assert (results["k"], results["J"], results["seed"], results["name"]) == (2, 2, 0, folder.name)
    assert [row["block"] for row in results["blocks"]] == [1, 2]
    for row in results["blocks"]:
        assert set(row["train"]) == {"loss", "top1"}
        assert set(row["test"]) == {"loss", "top1", "top5"}
        assert set(row["ensemble"]) == {"top1", "top5"}
        assert set(row["parameters"]) == {"block", "head"}
        assert set(row["seconds"]) == {"train", "advance", "evaluate"}
        assert row["images_per_second"] > 0
        assert row["peak_memory_mb"] > 0
        assert row["memory_mb"]["data"] == 300 * 8 * 8 / 2**20
        trained = sum(row["parameters"].values()) * 4 / 2**20
        assert row["memory_mb"]["parameters"] > 3 * trained  # themselves, gradients, momenta
        assert row["memory_mb"]["activations"] >= 0
        assert row["memory_mb"]["cache"] * 2**20 == results["cache"].get("bytes", 0)
        assert row["test"]["top1"] == round(row["test"]["top1"])  # of 100 images
    last = results["blocks"][-1]
    blocks = sum(row["parameters"]["block"] for row in results["blocks"])
    assert results["final"] == {
        "block": 2,
        "test_top1": last["test"]["top1"],
        "test_top5": last["test"]["top5"],
        "ensemble_top1": last["ensemble"]["top1"],
        "ensemble_top5": last["ensemble"]["top5"],
        "parameters": blocks + last["parameters"]["head"],
    }
    assert results["cache"] == {"kind": "memory", "place": "host", "views": 2, "exact": True} | {
        name: results["cache"][name] for name in ("dtype", "bytes")
    }
    assert set(results) >= {"hardware", "versions", "git_commit", "seconds"}
    lines = metrics_of(folder)
    positions = [(line["stage"], line["epoch"], line["step"]) for line in lines]
    assert positions == [(1, 1, 4), (1, 2, 8), (2, 1, 12), (2, 2, 16)]
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved["optimizer"]["lr"] == 0.1
    assert resolved["model"]["batch_norm"] is True
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "stage_1.safetensors",
        "stage_2.safetensors",
    ]


def test_the_same_command_prints_the_result_of_a_finished_run(train_py, tmp_path):
    first = train_py()
    written = (only_run(tmp_path) / "results.json").stat().st_mtime_ns
    again = train_py()
    assert (again.code, again.out) == (0, first.out)
    assert (only_run(tmp_path) / "results.json").stat().st_mtime_ns == written


def test_fresh_starts_over_in_the_same_folder(train_py, tmp_path):
    train_py()
    first = results_of(only_run(tmp_path))
    assert train_py(fresh="true").code == 0
    second = results_of(only_run(tmp_path))
    assert second["seconds"] != first["seconds"]
    assert numbers(first) == numbers(second)


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cached_run_equals_a_recomputed_one_to_the_bit(train_py, tmp_path, cache):
    """Views = epochs, float32: every figure of results.json but the times."""
    rows = []
    for kind in ("none", cache):
        assert train_py(cache=kind, precision="fp32", J=3, name=kind, **{"dataset.cutout": 3}).code == 0
        results = results_of(tmp_path / "out" / kind)
        rows.append(numbers(results))
        assert results["cache"]["exact"]
    assert rows[0] == rows[1]
    blocks = [load_tree(tmp_path / "out" / kind / "checkpoints" / "stage_3.safetensors") for kind in ("none", cache)]
    assert all(torch.equal(blocks[0]["segment"][n], blocks[1]["segment"][n]) for n in blocks[0]["segment"])
    assert not (tmp_path / "out" / cache / "cache").exists()


def test_a_disk_cache_may_lie_elsewhere_and_stay(train_py, tmp_path):
    train_py(cache="disk", **{"cache.dir": tmp_path / "scratch", "cache.keep": "true"})
    (store,) = (tmp_path / "scratch").glob("*/rank_0_of_1/x*")
    assert store.name == "x1"
    assert train_py(cache="disk", fresh="true", **{"cache.dir": tmp_path / "scratch"}).code == 0
    assert not list((tmp_path / "scratch").glob("*/rank_0_of_1/x*"))


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_an_approximate_cache_says_so(trained, dtype):
    cache = results_of(trained(cache="memory", precision="fp32", **{"cache.dtype": dtype, "cache.views": 1}))["cache"]
    assert (cache["dtype"], cache["views"], cache["exact"]) == (dtype, 1, False)


def test_joint_training_is_one_stage_over_all_blocks(train_py, tmp_path):
    assert train_py(plan="joint").code == 0
    results = results_of(only_run(tmp_path))
    (row,) = results["blocks"]
    assert row["block"] == 2
    assert row["ensemble"]["top1"] == row["test"]["top1"]
    assert len(metrics_of(only_run(tmp_path))) == 4  # J × epochs
    greedy = json.loads(train_py(summary="json").out)
    assert results["final"]["parameters"] == greedy["parameters"] == sum(row["parameters"].values())


def test_validation_is_held_out_and_reported(trained):
    folder = trained(**{"dataset.validation": 0.1, "evaluation.every": 1})
    assert {"top1", "top5", "loss"} == set(results_of(folder)["blocks"][0]["validation"])
    lines = metrics_of(folder)
    assert all({"validation", "test"} <= set(line) for line in lines)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
def test_other_schedules_train(train_py, tmp_path, schedule):
    overrides = {"optimizer.schedule": schedule, "optimizer.restart_momentum": "false", "optimizer.nesterov": "true"}
    overrides |= {"optimizer.clip_norm": "1", "objective.label_smoothing": "0.1"}
    assert train_py(epochs=4, **overrides).code == 0
    assert results_of(only_run(tmp_path))["final"]["test_top1"] > 30


def test_warm_start_begins_at_the_risk_where_the_block_before_ended(train_py, tmp_path):
    """Proposition 3.1: with a vanishing learning rate, block 2 keeps the scores of block 1."""
    options = {"model.downsample": "[]", "plan.warm_start": "true", "precision": "fp32", "dataset.augment": "false"}
    for batch_norm in ("false", "true"):
        name = f"bn-{batch_norm}"
        overrides = {"name": name, "model.batch_norm": batch_norm, "optimizer.lr": 1e-12, "epochs": 1}
        assert train_py(**options, **overrides).code == 0
        first, second = results_of(tmp_path / "out" / name)["blocks"]
        tolerance = 1e-5 if batch_norm == "false" else 0.05  # the running statistics move by one epoch
        assert second["test"]["loss"] == pytest.approx(first["test"]["loss"], rel=tolerance)


ON_DISK = {"epochs": 6, "cache": "disk"}


@pytest.fixture
def uninterrupted(rows_of_whole_run) -> list:
    """The rows of the run that the interrupted ones below must equal."""
    return rows_of_whole_run(**ON_DISK)


@pytest.mark.parametrize("lines", [4, 6, 9])
def test_after_kill_9_the_same_command_ends_with_identical_results(train_py, tmp_path, uninterrupted, lines):
    process, folder = start_and_train(tmp_path, lines, "killed", **ON_DISK)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "results.json").exists() or results_of(folder)["status"] == "running"
    assert train_py(name="killed", **ON_DISK).code == 0
    assert numbers(results_of(folder)) == uninterrupted
    seen = [(line["stage"], line["epoch"]) for line in metrics_of(folder)]
    assert seen == [(s, e) for s in (1, 2) for e in range(1, 7)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(train_py, tmp_path, uninterrupted, number, code):
    process, folder = start_and_train(tmp_path, 2, "stopped", **ON_DISK)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert "Run the same command again to go on" in err
    assert results_of(folder)["status"] == "interrupted"
    assert train_py(name="stopped", **ON_DISK).code == 0
    assert numbers(results_of(folder)) == uninterrupted


def test_a_damaged_step_checkpoint_falls_back_to_the_one_before(train_py, tmp_path, uninterrupted):
    process, folder = start_and_train(tmp_path, 3, "damaged", **ON_DISK)
    process.send_signal(signal.SIGTERM)
    process.wait()
    newest = max((folder / "checkpoints").glob("*_step_*.safetensors"))
    corrupt(newest, "altered")
    outcome = train_py(name="damaged", **ON_DISK)
    assert outcome.code == 0
    assert "falling back" in outcome.err
    assert newest.name in outcome.err
    assert newest.with_suffix(".damaged").exists()
    assert numbers(results_of(folder)) == uninterrupted


@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_finished_block_is_trained_again_and_later_ones_are_set_aside(train_py, trained, finished):
    folder = trained(name="whole", J=3)
    rows = numbers(results_of(folder))
    if not finished:
        (folder / "results.json").unlink()
    corrupt(folder / "checkpoints" / "stage_2.safetensors", "truncated")
    outcome = train_py(name="whole", J=3)
    assert outcome.code == 0
    assert "stage_2.safetensors" in outcome.err
    assert (folder / "checkpoints" / "stage_2.damaged").exists()
    assert (folder / "checkpoints" / "stage_3.stale").exists()
    assert numbers(results_of(folder)) == rows


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_finished_run_loads_as_a_network_that_scores_as_reported(trained, cache):
    folder = trained(precision="fp32", J=3, epochs=4, cache=cache, **{"evaluation.train": "true"})
    net, results = layerwise.load(folder), results_of(folder)
    assert net.spec.agrees_with(Digits().spec())
    data = load(Digits(), torch.device("cpu"), limit_train=200, limit_test=100, seed=0)
    with torch.no_grad():
        for split in ("train", "test"):  # without augmentation
            images = data.splits[split]
            x = net.normalise(images.values.permute(0, 3, 1, 2))
            for row in results["blocks"]:
                scores = net(x, depth=row["block"])
                assert accuracy(scores, images.labels) == pytest.approx(row[split]["top1"])
        for row in results["blocks"]:
            ensemble = net.ensemble(x, depth=row["block"])
            assert accuracy(ensemble, images.labels) == pytest.approx(row["ensemble"]["top1"])
        assert torch.equal(net(x), net(x, depth=3))
        assert net.features(x, 2).shape == (100, 16, 4, 4)
    assert not net.training


def accuracy(z: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float((z.argmax(1) == labels).float().mean())


def test_an_unfinished_run_loads_up_to_its_last_finished_depth(trained, tmp_path):
    folder = trained(J=3)
    (folder / "checkpoints" / "stage_3.safetensors").unlink()
    assert layerwise.load(folder).depths == (1, 2)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(layerwise.core.errors.LayerwiseError, match="no block is finished"):
        layerwise.load(folder)
    with pytest.raises(layerwise.core.errors.LayerwiseError, match="run folder"):
        layerwise.load(tmp_path)


def test_a_k1_run_from_before_model_bias_keeps_the_biases_that_it_was_trained_with(trained):
    folder = trained(k=1, J=2, **{"model.bias": "true", "model.head_width": None})
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("  bias: true\n", ""))
    assert layerwise.load(folder).blocks[1][-2].bias is not None


@pytest.mark.skipif(sys.platform != "linux", reason="measured on Linux alone")
def test_the_growth_of_memory_is_what_was_taken_since_it_is_watched():
    earlier = torch.ones(2**26)  # 256 MB, of which the peak still tells
    del earlier
    before = peak_memory_mb(HOST)
    growth = MemoryGrowth(HOST)
    if growth.mb() is None:
        pytest.skip("this container does not let the peak be forgotten")
    assert growth.mb() < 20
    taken = torch.ones(2**25)  # 128 MB
    assert 120 < growth.mb() < 160
    del taken
    assert 120 < growth.mb() < 160
    assert peak_memory_mb(HOST) > before - 1  # the kernel counts pages late


@pytest.mark.skipif(sys.platform != "linux", reason="measured on Linux alone")
def test_memory_does_not_count_what_was_there_after_the_first_step():
    growth = MemoryGrowth(HOST)
    if growth.mb() is None:
        pytest.skip("this container does not let the peak be forgotten")
    kept = torch.ones(2**25)
    growth.settle()
    assert growth.mb() < 20
    assert growth.settled
    assert kept.sum() > 0


def test_one_block_needs_less_memory_to_train_than_the_whole_network(trained):
    options = {"J": 4, "epochs": 1, "cache": "none", "model.width": 32, "model.downsample": "[]"}
    parts = {
        plan: [row.get("memory_mb") for row in results_of(trained(plan=plan, **options))["blocks"]]
        for plan in ("greedy", "joint")
    }
    if None in (*parts["greedy"], *parts["joint"]):
        pytest.skip("memory cannot be measured here")
    (whole,) = parts["joint"]
    assert 0 < max(row["activations"] for row in parts["greedy"]) < 0.8 * whole["activations"]
    assert max(row["parameters"] for row in parts["greedy"]) < 1.5 * whole["parameters"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells")
def test_the_peak_of_memory_is_not_that_of_a_larger_parent():
    ballast = torch.ones(2**27)  # 512 MB
    code = "from layerwise.core.machine import *; print(peak_memory_mb(HOST))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert 50 < float(ended.stdout) < peak_memory_mb(HOST) - 300
    assert ballast.sum() > 0
