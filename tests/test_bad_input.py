"""Bad input: one clear message that names the key or file, a non-zero exit, no traceback, nothing lost."""

from __future__ import annotations

import errno

import pytest

from helpers.commands import assert_refused
from helpers.configs import configured
from helpers.processes import start, wait_for
from helpers.run_folders import numbers, only_run, results_of
from layerwise.core import files as storage
from layerwise.core.errors import LayerwiseError


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modle=simcnn", ["modle", "model"]),
        ("model.widht=3", ["model.widht", "model.width"]),
        ("+model.widht=3", ["model.widht", "model.width"]),
        ("+nonsense=3", ["nonsense"]),
        ("model=null", ["model=null: a group", "simcnn"]),
        ("dataset=3", ["dataset=3: a group", "digits"]),
        ("model.head_widths={a: 1}", ["model.head_widths", "must be a list"]),
        ("model.downsample=[[1],[2]]", ["model.downsample", "single values"]),
        ("dataset.root={a: 1}", ["dataset.root", "single value"]),
        ("plan.finetune=3", ["plan.finetune=3", "group of keys"]),
        ("k=???", ["k=???", "missing value"]),
        ("compile=7", ["compile=7", "true or false"]),
        ("batch_size=99999999999999999999999", ["batch_size", "at most"]),
        ("J=100000", ["J=100000", "at most 1000"]),
        ("optimizer.weight_decay=inf", ["optimizer.weight_decay=inf", "finite"]),
        ("objective.l1=nan", ["objective.l1=nan", "finite"]),
        ("output_dir=", ["output_dir", "empty"]),
        ("dataset.root=a\0b", ["dataset.root", "NUL"]),
        ("model.downsample=" + "[" * 30 + "]" * 30, ["model.downsample", "brackets"]),
        ("dataset.root=a=b", ["'dataset.root=\"a=b\"'"]),
        ("dataset.root=папка", ["'dataset.root=\"папка\"'"]),
        ("model.pool=100", ["model.pool=100", "8 pixels"]),
        ("plan.blocks_per_stage=5", ["plan.blocks_per_stage=5", "J"]),
        ("dataset.class_weights=nonsense", ["dataset.class_weights", "balanced"]),
        ("--epohs=3", ["epohs", "epochs"]),
        ("--resolve", ["--resolve", "--cfg job"]),
        ("--shell-completion", ["--shell-completion", "install=bash"]),
        ("--nonsense", ["--nonsense", "nonsense=…"]),
        ("--config-dri=x", ["--config-dri=x", "--config-dir"]),
        ("model=simcn", ["model=simcn", "simcnn"]),
        ("dataset=cifar11", ["dataset=cifar11", "cifar10"]),
        ("dataset=base", ["dataset.name"]),
        ("cache=base", ["cache.kind"]),
        ("dataset.name=cifar11", ["dataset.name=cifar11", "cifar10"]),
        ("experiment=demo_digit", ["experiment=demo_digit", "demo_digits"]),
        ("k=0", ["k=0", "1 or more"]),
        ("k=three", ["k", "three"]),
        ("J=0", ["J=0", "1 or more"]),
        ("epochs=0", ["epochs=0"]),
        ("batch_size=0", ["batch_size=0"]),
        ("model.width=0", ["model.width=0"]),
        ("model.head_width=-1", ["model.head_width=-1"]),
        ("model.downsample=[3]", ["model.downsample", "block 3 does not exist", "J=2"]),
        ("model.downsample=[0]", ["model.downsample", "block 0 does not exist"]),
        ("model.downsampling=strided", ["model.downsampling", "strided", "stride"]),
        ("precision=fp64", ["precision", "fp64", "bf16"]),
        ("device=tpu", ["device=tpu", "cpu"]),
        ("dataset.validation=1.5", ["dataset.validation=1.5"]),
        ("dataset.validation=0.0001", ["dataset.validation=0.0001"]),
        ("dataset.limit=100000", ["dataset.limit=100000", "1437"]),
        ("dataset.limit_test=100000", ["dataset.limit_test=100000", "360"]),
        ("batch_size=201", ["batch_size=201", "200"]),
        ("cache.views=0", ["cache.views=0"]),
        ("cache.views=many", ["cache.views=many"]),
        ("cache.dtype=int4", ["cache.dtype", "int4", "uint8"]),
        ("optimizer.lr=0", ["optimizer.lr=0"]),
        ("optimizer.momentum=1", ["optimizer.momentum=1"]),
        ("optimizer.schedule=stairs", ["optimizer.schedule", "stairs", "step"]),
        ("objective.label_smoothing=1", ["objective.label_smoothing=1"]),
        ("ensemble.on=votes", ["ensemble.on", "votes", "logits"]),
        ("name=a/b", ["name=a/b"]),
        ("plan.warm_start=true", ["plan.warm_start", "block 2"]),
        ("k=", ["k"]),
        ("model.width=[", ["model.width=["]),
    ],
)
def test_a_bad_key_or_value(train_py, tmp_path, override, words):
    assert_refused(train_py(override), *words)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*/checkpoints"))


@pytest.mark.parametrize("words", [["model.head_widths='${oc.env:NO}'"], ["model=mlp", "model.widths='${oc.env:NO}'"]])
def test_an_interpolation_that_cannot_be_resolved_names_its_key(words):
    with pytest.raises(LayerwiseError, match=r"widths=\$\{oc.env:NO\}: .*'NO' not found"):
        configured("dataset=digits", *words)


def test_debug_shows_the_traceback(train_py):
    with pytest.raises(Exception, match="k=0"):
        train_py("k=0", "debug=true")


def test_so_many_downsampled_blocks_that_less_than_2x2_is_left(train_py):
    assert_refused(train_py(J=6, **{"model.downsample": "[1,2,3]"}), "2×2", "block 3", "J=6")


def test_an_odd_resolution_cannot_be_halved(train_py):
    outcome = train_py(dataset="fashion_mnist", J=3, summary="json", **{"model.downsample": "[1,2,3]"})
    assert_refused(outcome, "block 3", "odd", "7×7")


def test_a_missing_data_set_says_where_it_was_looked_for(train_py, tmp_path):
    outcome = train_py(dataset="cifar10", **{"dataset.root": tmp_path / "nowhere"})
    assert_refused(outcome, "cifar10", str(tmp_path / "nowhere"), "dataset.root")


def test_a_root_that_cannot_be_written(train_py, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = train_py(dataset="cifar10", **{"dataset.root": tmp_path / "file"})
    assert_refused(outcome, str(tmp_path / "file"), "dataset.root")


def test_a_truncated_batch_file_is_named(train_py, tmp_path):
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"\x80\x03")
    outcome = train_py(dataset="cifar10", **{"dataset.root": tmp_path / "data"})
    assert_refused(outcome, str(folder / "data_batch_1"), "damaged")


def test_an_output_dir_that_cannot_be_written(train_py, tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(train_py(output_dir=tmp_path / "file"), str(tmp_path / "file"))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_larger_than_the_budget_is_said_before_training(train_py, tmp_path, kind):
    outcome = train_py(cache=kind, **{"cache.budget_gb": 1e-6})
    assert_refused(outcome, f"cache={kind}", "budget", "cache.views", "cache=none")
    assert not list((tmp_path / "out").iterdir())  # no folder of a run that never began


def test_an_automatic_cache_that_does_not_fit_falls_back_with_a_message(train_py, tmp_path):
    outcome = train_py(cache="auto", **{"cache.budget_gb": 1e-6})
    assert outcome.code == 0
    assert "the prefix is recomputed" in outcome.err
    assert results_of(only_run(tmp_path))["cache"]["kind"] == "none"


def test_a_run_folder_of_another_configuration_is_refused(train_py, tmp_path):
    train_py(name="mine")
    before = numbers(results_of(tmp_path / "out" / "mine"))
    assert_refused(train_py(name="mine", seed=1), str(tmp_path / "out" / "mine"), "seed: 0 there, 1 here", "fresh=true")
    assert numbers(results_of(tmp_path / "out" / "mine")) == before


@pytest.mark.parametrize("text", ["foo: 1", "", "seed: 1"])
def test_starting_over_deletes_no_folder_of_another_program(train_py, tmp_path, text):
    folder = tmp_path / "out" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text)
    (folder / "thesis.txt").write_text("years")
    assert_refused(train_py(name="mine", fresh="true"), f"{folder} is no run folder", "name=")
    assert (folder / "thesis.txt").read_text() == "years"


def test_starting_over_deletes_a_run_with_a_damaged_configuration(train_py, tmp_path):
    assert train_py(name="mine").code == 0
    (tmp_path / "out" / "mine" / "config.yaml").write_text("k: [")
    assert train_py(name="mine", fresh="true").code == 0


def test_two_processes_do_not_share_a_run_folder(train_py, tmp_path):
    process = start(tmp_path, name="mine", epochs=1000)
    wait_for(lambda: (tmp_path / "out" / "mine" / "metrics.jsonl").exists(), process)
    outcome = train_py(name="mine", epochs=1000)
    process.kill()
    process.wait()
    assert_refused(outcome, "in use", str(process.pid))


def test_a_loss_that_becomes_nan_stops_and_keeps_the_last_good_checkpoint(train_py, tmp_path):
    outcome = train_py(name="nan", **{"optimizer.lr": 1e12, "model.batch_norm": "false", "precision": "fp32"})
    assert_refused(outcome, "NaN", "stage 1", "epoch", "step", "optimizer.lr")
    assert results_of(tmp_path / "out" / "nan")["status"] == "failed"


def full_disk_after(monkeypatch, path_part: str, writes: int) -> None:
    """From the n-th write to a matching path on, the disk is full."""
    original, count = storage.open if hasattr(storage, "open") else open, [0]

    def opening(path, *arguments, **options):
        if path_part in str(path):
            count[0] += 1
            if count[0] > writes:
                raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *arguments, **options)

    monkeypatch.setattr(storage, "open", opening, raising=False)


@pytest.mark.usefixtures("save_each_epoch")
def test_a_full_disk_at_a_checkpoint_loses_nothing(train_py, tmp_path, monkeypatch):
    train_py(name="whole")
    with monkeypatch.context() as patch:
        full_disk_after(patch, "stage_2_step", writes=1)
        outcome = train_py(name="full")
    assert_refused(outcome, "stage_2_step", "no space left", "intact")
    assert train_py(name="full").code == 0
    assert numbers(results_of(tmp_path / "out" / "full")) == numbers(results_of(tmp_path / "out" / "whole"))


def test_a_broken_image_folder_is_named(train_py, tmp_path):
    root = tmp_path / "images"
    overrides = {"dataset": "imagefolder", "dataset.root": root, "dataset.size": 8}
    assert_refused(train_py(**overrides), str(root / "train"))
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
    assert_refused(train_py(**overrides), str(root / "train" / "cat"), "no images")
    (root / "val" / "dog").rmdir()
    (root / "val" / "fox").mkdir()
    assert_refused(train_py(**overrides), "dog", "fox")
