"""Files of a run folder: they say which run they are of, and any damage of them is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from helpers.commands import assert_refused, run_script
from helpers.run_folders import metrics_of, numbers, results_of
from layerwise.analysis.collecting import read_run
from layerwise.config.parse import from_yaml
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import load_tree, save_tree, write_atomically
from layerwise.data import toy
from layerwise.runs import folder as run_folder
from layerwise.runs.run_files import DamagedRunFile, read_results, read_spec, sealed


@pytest.fixture
def run(train_py, tmp_path) -> Path:
    assert train_py(name="run").code == 0
    return tmp_path / "out" / "run"


def test_files_of_another_seed_or_stage_are_refused_by_name(run, train_py, tmp_path):
    assert train_py(name="other", seed=1).code == 0
    other = tmp_path / "out" / "other"
    for name in ("checkpoints/stage_1.safetensors", "results.json", "metrics.jsonl"):
        own = (run / name).read_bytes()
        shutil.copy(other / name, run / name)
        assert_refused(train_py(name="run"), str(run / name), "another run")
        if name == "results.json":
            assert read_run(run).status == "damaged"
        (run / name).write_bytes(own)
    assert read_run(run).status == "completed"
    shutil.copy(run / "checkpoints" / "stage_1.safetensors", run / "checkpoints" / "stage_2.safetensors")
    assert_refused(train_py(name="run"), "stage_2.safetensors", "holds stage 1")


def test_a_configuration_is_read_anew_where_its_file_changed_and_is_never_shared(run):
    path = run / "config.yaml"
    first, again = from_yaml(path), from_yaml(path)
    assert first == again
    first.logger.wandb.tags.append("changed")
    assert from_yaml(path) == again
    path.write_text(path.read_text().replace("seed: 0", "seed: 7"))
    assert from_yaml(path).seed == 7


def test_other_samples_in_memory_are_refused_and_the_first_is_named(run, train_py, monkeypatch):
    (images, labels), test = toy.read_digits()
    images[6, 0, 0] += 1
    monkeypatch.setattr(toy, "read_digits", lambda: ((images, labels), test))
    (run / "checkpoints" / "stage_2.safetensors").unlink()
    outcome = train_py(name="run")
    assert_refused(outcome, "dataset=digits: the data are not those", "first difference: train sample 7: checksum")
    (run / "data.txt.gz").write_bytes(b"damaged")
    outcome = train_py(name="run")
    assert_refused(outcome, "dataset=digits: the data are not those", "content")
    assert "first difference" not in outcome.err


def test_stages_behind_a_deleted_one_are_stale(run, train_py):
    before = numbers(results_of(run))
    (run / "checkpoints" / "stage_1.safetensors").unlink()
    outcome = train_py(name="run")
    assert outcome.code == 0
    assert "stage_1.safetensors is missing: stage_2.safetensors" in outcome.err
    assert (run / "checkpoints" / "stage_2.stale").exists()
    assert numbers(results_of(run)) == before


def test_checkpoints_of_earlier_versions_say_nothing_and_are_taken(run, train_py):
    before = numbers(results_of(run))
    first = run / "checkpoints" / "stage_1.safetensors"
    save_tree(first, {name: value for name, value in load_tree(first).items() if name != "origin"})
    (run / "checkpoints" / "stage_2.safetensors").unlink()
    assert train_py(name="run").code == 0
    assert numbers(results_of(run)) == before


def test_lost_lines_of_the_metrics_are_said(run, train_py):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[0], lines[1].replace("0.", "1.", 1), *lines[2:]]))
    outcome = train_py(name="run")
    assert outcome.code == 0
    assert "metrics.jsonl: lines are missing or damaged (stage 1 epoch 2)" in outcome.err
    (run / "checkpoints" / "stage_2.safetensors").unlink()
    assert "stage 1 epoch 2" in train_py(name="run").err
    assert [(line["stage"], line["epoch"]) for line in metrics_of(run)] == [(1, 1), (2, 1), (2, 2)]


@pytest.mark.parametrize("left", [(), ("cache/rank_0_of_1/",), ("config.yaml.part",)])
def test_what_a_killed_start_leaves_does_not_lock_the_folder(train_py, tmp_path, left):
    folder = tmp_path / "out" / "run"
    for name in (".lock", *left):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    assert train_py(name="run", fresh="true").code == 0
    assert not list(folder.glob("*.part"))
    assert not (folder / "cache").exists()


def test_a_kill_behind_the_last_stage_leaves_nothing_for_good(run, train_py):
    (run / "results.json.part").write_text("{")
    (run / "checkpoints" / "stage_2.safetensors.part").write_text("")
    (run / "cache" / "rank_0_of_1" / "x1.partial").mkdir(parents=True)
    assert train_py(name="run").code == 0
    assert not [*run.rglob("*.part"), *run.glob("cache")]


def test_the_configuration_is_removed_last(train_py, run, monkeypatch):
    removed = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (removed.append(path.name), unlink(path, **options)))
    assert train_py(name="run", fresh="true").code == 0
    assert removed[0] == "results.json"
    assert "metrics.jsonl" in removed[: removed.index("config.yaml")]


def test_a_run_folder_that_is_deleted_is_not_made_again(train_py, tmp_path, monkeypatch, save_each_epoch):
    folder, check = tmp_path / "out" / "run", run_folder.RunFolder.check_present

    def deleted(opened):
        shutil.rmtree(folder, ignore_errors=True)
        check(opened)

    monkeypatch.setattr(run_folder.RunFolder, "check_present", deleted)
    assert_refused(train_py(name="run"), str(folder), "deleted, moved or replaced")
    assert not folder.exists()


def test_a_file_in_a_run_folder_makes_no_folder(tmp_path):
    with pytest.raises(LayerwiseError, match=r"gone/results.json: cannot be written: its folder is gone"):
        write_atomically(tmp_path / "gone" / "results.json", "", kept="", makes_folder=False)
    assert not (tmp_path / "gone").exists()


def test_a_finished_run_that_cannot_be_written_shows_its_results(run, train_py, monkeypatch):
    lock = open

    def read_only(path, mode="r", *more, **options):
        if set(mode) & set("wxa+") and str(path).startswith(str(run)):
            raise OSError(30, "Read-only file system", str(path))
        return lock(path, mode, *more, **options)

    monkeypatch.setattr("builtins.open", read_only)
    outcome = train_py(name="run")
    assert outcome.code == 0, outcome.err
    assert f"run folder: {run}" in outcome.out
    (run / "checkpoints" / "stage_2.safetensors").unlink()
    assert_refused(train_py(name="run"), str(run), "Read-only file system")


BAD = [b"", b"[]", b"3", b"null", b"{}", b"\xff\xfe", b'{"status": 3}', b'{"name": "x"}', b"[" * 100_000]


@pytest.mark.parametrize("content", BAD)
@pytest.mark.parametrize(("name", "read"), [("results.json", read_results), ("dataset.json", read_spec)])
def test_any_content_of_a_json_file_is_refused_with_its_name(tmp_path, name, read, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedRunFile, match=rf"{name} is damaged .*Run the command of this run again"):
        read(tmp_path / name)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("[]")])
def test_a_finished_run_writes_its_lost_description_again(run, train_py, damage):
    before, results = (run / "dataset.json").read_bytes(), numbers(results_of(run))
    damage(run / "dataset.json")
    outcome = train_py(name="run")
    assert outcome.code == 0
    assert outcome.err.count("dataset.json is damaged") == (damage is not Path.unlink)
    assert (run / "dataset.json").read_bytes() == before
    assert numbers(results_of(run)) == results


@pytest.mark.parametrize("name", ["results.json", "dataset.json", "metrics.jsonl", "command.txt"])
def test_a_folder_in_the_place_of_a_file_is_named(run, name):
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    assert_refused(run_script("make_report", str(run)), f"{run / name} is a folder")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "a table", "")
    assert os.read(reader, 99) == b"a table"
    os.close(reader)
    assert pipe.is_fifo()


def test_an_altered_number_is_noticed(run):
    results = results_of(run)
    results["seconds"] += 1
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(DamagedRunFile, match="checksum"):
        read_results(run / "results.json")
    (run / "results.json").write_text(json.dumps(sealed(results)))
    assert read_results(run / "results.json")["seconds"] == results["seconds"]
