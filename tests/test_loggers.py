"""W&B and TensorBoard: what they write is what the run folder says, and no failure of theirs reaches the run."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
from typing import Any

import numpy as np
import pytest
import yaml
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from helpers.commands import SCRIPTS, Outcome, TrainPy, assert_refused, run_script
from helpers.loggers import OFFLINE, assert_history_is_that_of_the_files, at_epoch, tensorboard_events
from helpers.run_folders import only_run, results_of
from helpers.wandb_files import offline_runs
from layerwise.__main__ import main
from layerwise.commands.log import main as log_command
from layerwise.config.parse import from_yaml
from layerwise.reporting.loggers.base import Loggers
from layerwise.reporting.loggers.choice import group_of
from layerwise.reporting.loggers.content import block_table, scalars_by_place
from layerwise.reporting.loggers.tensorboard_files import CELL, heat_map
from layerwise.reporting.samples import read_samples
from layerwise.runs.metrics import read_lines

pytestmark = pytest.mark.usefixtures("no_wandb_account")


def interrupted(train_py: TrainPy, number: int, **options: Any) -> Outcome:
    """A run that gets a signal in one of its epochs."""
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, number, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        return train_py(**options)


def log(*words: object) -> int:
    """The exit code of `layerwise log`."""
    return log_command(list(map(str, words)))


def test_both_logs_hold_what_the_files_of_the_run_say(train_py, tmp_path):
    words = ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline", "logger.wandb.project=thesis"]
    words += ["logger.wandb.tags=[first]", "logger.wandb.artifacts=true", "evaluation.every=1"]
    outcome = train_py(*words)
    assert outcome.code == 0
    folder = only_run(tmp_path)
    (run,) = offline_runs(folder)
    results, lines = results_of(folder), read_lines(folder / "metrics.jsonl")

    assert f"wandb sync {folder}/wandb/offline-run-*-{run.run['id']}" in outcome.err
    expected = {"project": "thesis", "group": group_of(folder), "job_type": "greedy", "name": folder.name}
    assert run.run == expected | {"id": run.run["id"], "tags": ["greedy", "k=2", "first"]}
    assert run.config["command"].startswith("layerwise train dataset=digits k=2")
    assert {"dataset=digits", "k=2", "logger=[wandb,tensorboard]"} <= set(run.config["overrides"])
    assert run.exit_code == 0
    assert run.config["model"]["width"] == 8
    assert run.config["run_folder"] == str(folder.resolve())
    assert "logger" not in run.config
    assert_history_is_that_of_the_files(run.rows, folder)
    assert run.column("depth/test_top1") == pytest.approx([row["test"]["top1"] for row in results["blocks"]])
    assert run.column("depth_block") == [1, 2]
    for name in ("test_top1", "ensemble_top1", "parameters"):
        assert run.summary[name] == pytest.approx(results["final"][name])
    assert run.summary["seconds"] == pytest.approx(results["seconds"])
    assert run.summary["status"] == "completed"
    # one key for each figure: of the curves the best in training alone
    assert sorted(name for name in run.summary if "/" in name) == ["train/loss", "train/top1"]
    assert run.metrics["train/loss"] == ["min"]
    assert run.metrics["train/top1"] == ["max"]
    assert run.metrics["*"] == ["none"]
    steps = [row["step"] for row in run.rows if "test/top1" in row]
    assert len(steps) == len(set(steps)) == len(lines)
    columns, rows = block_table(results)
    assert run.table("blocks") == {"columns": columns, "data": rows}
    confusion = results["classification"]["confusion_matrix"]
    assert [row[2] for row in run.table("confusion_matrix_table")["data"]] == [n for row in confusion for n in row]
    assert any(name.startswith("network-") for name in run.artifacts)

    events = tensorboard_events(folder)
    for block in (1, 2):
        own = [line for line in lines if line["block"] == block]
        for tag, values in (
            ("train/loss", [line["loss"] for line in own]),
            ("test/top1", [line["test"]["top1"] for line in own]),  # the last one is not said again
        ):
            scalars = events.Scalars(f"{tag}/block_{block}")
            assert [scalar.value for scalar in scalars] == pytest.approx(values)
            assert [scalar.step for scalar in scalars] == [line["step"] for line in own]
        assert own[-1]["test"]["top1"] == results["blocks"][block - 1]["test"]["top1"]
    assert [scalar.step for scalar in events.Scalars("depth/test_top1")] == [1, 2]
    assert "confusion_matrix" in events.Tags()["images"]
    began = HParamsPluginData.FromString(events.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    assert began.session_start_info.hparams["model/width"].number_value == 8
    asked = HParamsPluginData.FromString(events.summary_metadata["_hparams_/experiment"].plugin_data.content)
    assert "final/test_top1" in [info.name.tag for info in asked.experiment.metric_infos]
    (text,) = events.Tensors("config/text_summary")
    assert '"batch_size": 64' in text.tensor_proto.string_val[0].decode()

    train_py(*words)  # finished: nothing more is logged
    assert len(offline_runs(folder)) == 1
    train_py(*words, fresh="true", epochs=1, name=folder.name)
    (anew,) = offline_runs(folder)
    assert anew.run["id"] != run.run["id"]


def test_a_resumed_run_is_the_same_wandb_run_and_logs_no_step_twice(train_py, trained, save_each_epoch):
    options = {"logger": "[wandb,tensorboard]", "logger.wandb.mode": "offline", "epochs": 3}
    outcome = interrupted(train_py, 4, **options)
    assert outcome.code == 143
    assert "wandb sync" in outcome.err
    folder = trained(**options)
    first, second = offline_runs(folder)
    assert first.run["id"] == second.run["id"]
    assert first.exit_code != 0
    assert_history_is_that_of_the_files([*first.rows, *second.rows], folder)
    assert [row["stages"] for run in (first, second) for row in run.rows if "stages" in row] == [1, 2]
    for block in (1, 2):
        steps = [scalar.step for scalar in tensorboard_events(folder).Scalars(f"train/loss/block_{block}")]
        own = [line["step"] for line in read_lines(folder / "metrics.jsonl") if line["block"] == block]
        assert steps == own


def test_tensorboard_keeps_and_catches_up_on_the_scores_of_finished_stages(train_py, trained, monkeypatch):
    options = {"logger": "tensorboard", "J": 4}
    assert interrupted(train_py, 3, **options).code == 143  # in the first epoch of the second stage
    with pytest.MonkeyPatch.context() as patch:  # killed after the second stage is finished and before it is shown
        patch.setattr(Loggers, "stage", lambda *_: (_ for _ in ()).throw(KeyError))
        patch.setattr(Loggers, "end", lambda *_: None)
        with pytest.raises(KeyError):
            train_py(**options)
    folder = trained(**options)
    events, lines = tensorboard_events(folder), read_lines(folder / "metrics.jsonl")
    for entry in results_of(folder)["stages"]:
        own = [line["step"] for line in lines if line["stage"] == entry["stage"]]
        for measure in ("test", "ensemble"):
            (scalar,) = events.Scalars(f"{measure}/top1/block_{entry['block']}")
            assert scalar.value == pytest.approx(entry[measure]["top1"])
            assert scalar.step == own[-1]
        assert [scalar.step for scalar in events.Scalars(f"train/loss/block_{entry['block']}")] == own
    assert [scalar.value for scalar in events.Scalars("stages")] == [1, 2, 3, 4]


def test_tensorboard_shows_stages_of_another_run(trained):
    reuse = {"plan.reuse": trained(name="first"), "model.final_head_width": 4}
    events = tensorboard_events(trained(name="second", logger="tensorboard", **reuse))
    assert [scalar.value for scalar in events.Scalars("stages")] == [1, 2]
    assert len(events.Scalars("test/top1/block_1")) == 1


@pytest.mark.parametrize("again", ["log", "train"])
def test_a_run_without_loggers_is_sent_later_and_once(train_py, tmp_path, again):
    assert train_py().code == 0
    folder, both = only_run(tmp_path), ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline"]
    for _ in range(2):
        assert (log(tmp_path / "out", *both) if again == "log" else train_py(*both).code) == 0
    (run,) = offline_runs(folder)
    assert_history_is_that_of_the_files(run.rows, folder)
    assert run.column("stages") == run.column("depth_block") == [1, 2]
    assert run.config["versions"] == results_of(folder)["versions"]
    assert (run.run["job_type"], run.summary["status"]) == ("greedy", "completed")
    steps = [line["step"] for line in read_lines(folder / "metrics.jsonl") if line["block"] == 2]
    assert [scalar.step for scalar in tensorboard_events(folder).Scalars("train/loss/block_2")] == steps
    assert len(tensorboard_events(folder).Scalars("final/test_top1")) == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["logger=wandb"], "no run is given"),
        (["RUN"], "no logger is given"),
        (["RUN", "logger=wandb", "k=3"], "k=3: only logger=… and its keys"),
        (["RUN", "logger=tensorbord"], "logger=tensorbord: unknown choice"),
        (["none", "logger=wandb"], "none: no such folder"),
    ],
)
def test_log_says_what_it_cannot_do(tmp_path, capsys, words, problem):
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit) as end:
        main(["log", *(str(tmp_path / "run") if word == "RUN" else word for word in words)])
    assert end.value.code == 2
    assert problem in capsys.readouterr().err


def test_a_run_that_is_not_begun_or_in_use_is_named_and_the_others_are_sent(train_py, tmp_path, capfd):
    for name in ("a", "b", "c"):
        train_py(name=name, J=1, **{"model.downsample": "[]"})
    (tmp_path / "out" / "a" / "results.json").unlink()
    with open(tmp_path / "out" / "b" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert log(tmp_path / "out", "logger=tensorboard") == 1
    said = capfd.readouterr().err
    assert f"{tmp_path / 'out' / 'a' / 'results.json'}: cannot be read" in said
    assert f"{tmp_path / 'out' / 'b'}: is being trained" in said
    assert "final/test_top1" in tensorboard_events(tmp_path / "out" / "c").Tags()["scalars"]


def test_a_search_for_the_depth_is_a_wandb_run_of_its_own(trained):
    options = {"dataset.validation": 0.25, "plan.search_fraction": 0.5, "epochs": 1}
    folder = trained(name="mine", **options, **OFFLINE)
    (search,), (run,) = offline_runs(folder / "search"), offline_runs(folder)
    assert (search.run["job_type"], search.run["name"]) == ("search", "mine/search")
    assert (run.run["job_type"], run.run["name"]) == ("greedy", "mine")
    assert run.run["group"] == search.run["group"]
    assert run.summary["search/block"] == results_of(folder)["search"]["block"]


def test_disabled_and_none_write_nothing(train_py, tmp_path):
    train_py(logger="wandb", **{"logger.wandb.mode": "disabled"})
    assert train_py(logger="none").code == 0  # and it is the same folder
    assert not list(only_run(tmp_path).glob("wandb*"))


def test_end_to_end_training_has_curves_of_its_own(trained):
    folder = trained(plan="joint", **OFFLINE | {"logger": "[wandb,tensorboard]"})
    losses = [line["loss"] for line in read_lines(folder / "metrics.jsonl")]
    events, (run,) = tensorboard_events(folder), offline_runs(folder)
    assert [scalar.value for scalar in events.Scalars("train/loss/blocks_1-2")] == pytest.approx(losses)
    assert "train/loss/block_2" not in events.Tags()["scalars"]
    assert run.column("train/loss/blocks_1-2") == run.column("train/loss") == pytest.approx(losses)
    assert len(events.Scalars("test/top1/blocks_1-2")) == 1


def test_the_errors_of_decoders_and_of_classifiers_have_curves_apart(trained):
    folder = trained(plan="autoencoder", epochs=1, **OFFLINE | {"logger": "[wandb,tensorboard]"})
    first = read_lines(folder / "metrics.jsonl")[0]
    events, (run,) = tensorboard_events(folder), offline_runs(folder)
    assert run.column("reconstruction/train/loss")[0] == pytest.approx(first["loss"])
    (scalar,) = events.Scalars("reconstruction/train/loss/block_1")
    assert scalar.value == pytest.approx(first["loss"])
    assert len(events.Scalars("train/loss/block_1")) == 1


def test_both_show_test_images_with_the_answers_of_each_depth(trained):
    options = {"report": "true", "epochs": 3, "dataset.limit_test": None}
    folder = trained(**options, **OFFLINE | {"logger": "[wandb,tensorboard]"})
    samples, classes = read_samples(folder), results_of(folder)["classification"]["classes"]
    (run,) = offline_runs(folder)
    (shown,) = run.column("samples")
    said = zip(samples.numbers, samples.labels, *samples.predicted, strict=True)
    assert shown["captions"] == [
        f"image {number} of class {classes[label]}; depth 1: {classes[one]}, depth 2: {classes[two]}"
        for number, label, one, two in said
    ]
    assert all((run.folder / "files" / name).exists() for name in shown["filenames"])
    assert len(tensorboard_events(folder).Images("samples")) == 1


def test_runs_that_differ_in_the_seed_alone_are_one_group_of_wandb(trained):
    one, two, other = trained(seed=1), trained(seed=2), trained(seed=1, k=1)
    assert group_of(one) == group_of(two) != group_of(other)
    assert group_of(one).startswith("simcnn-digits-greedy-k2-J2-")


def test_blocks_that_train_at_once_have_a_curve_each(trained):
    folder = trained(plan="simultaneous", epochs=1, **OFFLINE)
    (line, *_), (run,) = read_lines(folder / "metrics.jsonl"), offline_runs(folder)
    assert scalars_by_place(line)["block_1"]["train/loss"] == line["heads"][0]["loss"]
    row = run.rows[0]
    assert [row[f"train/loss/block_{j}"] for j in (1, 2)] == pytest.approx([head["loss"] for head in line["heads"]])
    assert run.run["job_type"] == "simultaneous"


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_logger_that_is_not_installed_is_named(train_py, tmp_path, monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda word, *rest: None if word == name else find(word, *rest))
    assert_refused(train_py(logger=name), f"logger={name}: it is not installed", f"pip install {name}")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_from_before_there_was_a_choice_of_loggers_is_read(trained):
    path = trained() / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"logger": {"name": "none"}}))
    assert from_yaml(path).logger.wandb.mode.value == "disabled"


def test_the_heat_map_shows_each_row_by_its_shares():
    image = heat_map([[3, 1], [0, 0]])
    assert image.dtype == np.uint8
    assert image.shape == (2 * CELL, 2 * CELL, 3)
    right, wrong, empty = image[0, 0].sum(), image[0, -1].sum(), image[-1, -1].sum()
    assert right < wrong < empty == 3 * 255


def test_the_panels_of_the_dashboard_show_what_runs_log(trained, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from wandb_dashboard import SECTIONS, drawn, workspace

    (run,) = offline_runs(trained(**OFFLINE))
    for panel in (panel for panels in SECTIONS.values() for panel in panels):
        names = {panel.y} if panel.x is None else {panel.x, panel.y}
        if panel.is_curve:
            assert any(names <= row.keys() for row in run.rows), panel
        else:
            assert names <= run.summary.keys(), panel
        assert drawn(panel).title == panel.title
    view = workspace("someone", "layerwise", "view")._to_model().model_dump_json()
    assert '"depth/test_top1"' in view
    assert "jobType" in view


def test_the_dashboard_needs_a_login_and_says_so():
    outcome = run_script("wandb_dashboard")
    assert outcome.code == 2
    assert "not logged in to W&B" in outcome.err
    assert "wandb login" in outcome.err
    assert "depth/test_top1 over depth_block" in run_script("wandb_dashboard", "--print").out
