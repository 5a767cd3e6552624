"""`--multirun`: a failed job does not end the others, a signal does; and searches with Optuna."""

from __future__ import annotations

import inspect
import os
import re
import signal
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import hydra
import pytest
import torch
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.launcher import Launcher

from helpers.commands import Outcome, TrainPy, assert_refused, run_script
from helpers.configs import composed
from helpers.run_folders import results_of
from layerwise.commands.multirun import Failure, ends_all_jobs
from layerwise.config.parse import from_yaml
from layerwise.core import distributed
from layerwise.core.errors import LostProcess, NonFiniteLoss
from layerwise.experiment import run as experiment

QUICK = {"J": 1, "epochs": 1, "model.downsample": "[]", "progress": "off"}
DIVERGES = {"model.batch_norm": "false", "precision": "fp32"}
"""With these a learning rate of 1e12 gives NaN."""


@pytest.fixture
def multirun(train_py: TrainPy) -> TrainPy:
    """`python train.py … --multirun`; its parser wants all KEY=VALUE on one side of the flag."""

    def run(*words: str, **overrides) -> Outcome:
        return train_py(*words, "--multirun", **QUICK | overrides)

    return run


def runs_of(tmp_path: Path) -> dict[Path, dict]:
    """results.json by run folder."""
    return {path.parent: results_of(path.parent) for path in (tmp_path / "out").glob("*/results.json")}


def summary_of(outcome: Outcome) -> str:
    """What the command says at its end."""
    assert "Traceback" not in outcome.err
    found = re.search(r"^\d+ of \d+ jobs failed:\n(  .*\n)+", outcome.err, re.MULTILINE)
    assert found is not None, outcome.err
    return found[0]


def test_a_multirun_ends_with_a_table_of_its_runs(multirun, tmp_path):
    outcome = multirun("k=1,2", "seed=1,2")
    assert outcome.code == 0
    heading, _, *rows = [line.strip("| ").split(" | ") for line in outcome.out.splitlines() if line.startswith("|")]
    for k, row in zip((1, 2), rows, strict=True):
        found = [run["final"]["test_top1"] for run in runs_of(tmp_path).values() if run["k"] == k]
        told = dict(zip(heading, row, strict=True))
        assert (told["k"], told["runs"], told["completed"]) == (str(k), "2", "2")
        assert told["test %"] == f"{statistics.fmean(found):.2f} ± {statistics.stdev(found):.2f}"
    assert "|" not in multirun("k=1,2", "summary=json").out


@pytest.mark.parametrize("batches", [[], ["hydra.sweeper.max_batch_size=1"]], ids=["one batch", "a batch each"])
def test_the_jobs_after_a_failed_one_run_and_it_is_named_at_once_and_at_the_end(multirun, tmp_path, batches):
    outcome = multirun(*batches, k="2,0,3,-1")
    assert outcome.code == 1
    assert sorted(results["k"] for results in runs_of(tmp_path).values()) == [2, 3]
    assert all(results["status"] == "completed" for results in runs_of(tmp_path).values())
    assert outcome.err.splitlines() == [
        "job #1 (k=0) failed: k=0: must be 1 or more.",
        "job #3 (k=-1) failed: k=-1: must be 1 or more.",
        "2 of 4 jobs failed:",
        "  #1 (k=0): k=0: must be 1 or more.",
        "  #3 (k=-1): k=-1: must be 1 or more.",
    ]


def test_a_failure_is_named_before_the_next_job_begins(multirun, capfd, monkeypatch):
    said = []
    original = experiment.run_in_folder

    def train(config, *arguments, **options):
        said.append(capfd.readouterr().err)
        return original(config, *arguments, **options)

    monkeypatch.setattr(experiment, "run_in_folder", train)
    multirun(k="0,1")
    assert "job #0 (k=0) failed" in said[0]


def test_a_multirun_without_failures_exits_zero_and_equal_jobs_share_a_folder(multirun, tmp_path):
    outcome = multirun(k="1,1")
    assert outcome.code == 0
    assert "failed" not in outcome.err
    assert "this run is finished" in outcome.err
    assert len(runs_of(tmp_path)) == 1


def test_a_bug_in_a_job_shows_its_traceback_and_the_others_run(multirun, tmp_path, monkeypatch):
    original = experiment.run_in_folder

    def faulty(config, *arguments, **options):
        if config.k == 2:
            raise TypeError("a bug")
        return original(config, *arguments, **options)

    monkeypatch.setattr(experiment, "run_in_folder", faulty)
    outcome = multirun(k="2,1")
    assert outcome.code == 1
    assert outcome.err.count("Traceback") == 1
    assert "in faulty" in outcome.err
    assert "job #0 (k=2) failed: TypeError: a bug" in outcome.err
    assert "1 of 2 jobs failed:\n  #0 (k=2): TypeError: a bug\n" in outcome.err
    assert len(runs_of(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("dataset=digits,nope",), ["dataset=nope", "unknown choice", "No job was started."]),
        (("+kk=1,2",), ["unknown key 'kk'"]),
        (("kk=1,2",), ["unknown key 'kk'"]),
        (("optimizer.lr=interval(0.1,1)",), ["INTERVAL_SWEEP", "No job was started."]),
    ],
)
def test_jobs_that_do_not_compose_are_refused_with_one_message(multirun, tmp_path, words, expected):
    outcome = multirun(*words)
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.err
    for text in expected:
        assert text in outcome.err
    assert runs_of(tmp_path) == {}


@pytest.mark.parametrize("debug", ["false", "true"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_jobs_and_the_same_command_goes_on(multirun, tmp_path, monkeypatch, number, debug):
    original = experiment.run_stage

    def hit(*arguments, **options):
        os.kill(os.getpid(), number)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "run_stage", hit)
        outcome = multirun(seed="0,1", debug=debug)
    assert outcome.code == 128 + number
    assert outcome.err.startswith(f"error: stopped by {number.name};")
    assert len(outcome.err.splitlines()) == 1
    (results,) = runs_of(tmp_path).values()
    assert (results["seed"], results["status"]) == (0, "interrupted")
    assert multirun(seed="0,1").code == 0
    assert sorted((results["seed"], results["status"]) for results in runs_of(tmp_path).values()) == [
        (0, "completed"),
        (1, "completed"),
    ]


def test_what_one_of_several_processes_runs_into_ends_all_jobs(monkeypatch):
    """The others would wait for it in the next job."""
    alone = (NonFiniteLoss("NaN"), torch.OutOfMemoryError("no memory"), TypeError("a bug"))
    assert not any(ends_all_jobs(error) for error in alone)
    monkeypatch.setattr(distributed, "joined", lambda: True)
    assert all(ends_all_jobs(error) for error in alone)
    assert not ends_all_jobs(NonFiniteLoss("NaN").shared())


@pytest.mark.parametrize(("error", "code"), [(LostProcess("rank 1 has ended."), 4), (TypeError("a bug"), 1)])
@pytest.mark.parametrize("debug", ["false", "true"])
def test_such_an_error_is_named_and_no_further_job_begins(multirun, tmp_path, monkeypatch, error, code, debug):
    def lost(*arguments, **options):
        raise error

    monkeypatch.setattr(experiment, "run_in_folder", lost)
    monkeypatch.setattr("layerwise.commands.multirun.ends_all_jobs", lambda error: True)
    outcome = multirun(k="1,2", debug=debug)
    assert outcome.code == code
    assert f"job #0 (k=1) failed: {'' if code == 4 else 'TypeError: '}{error}" in outcome.err
    assert "#1" not in outcome.err
    assert ("Traceback" in outcome.err) == (code == 1 or debug == "true")


def test_a_job_is_named_by_the_arguments_that_not_all_jobs_have(monkeypatch):
    failure = Failure(1, ("J=2", "k=0"), "k=0: must be 1 or more.", diverged=False)
    monkeypatch.setattr(sys, "argv", ["train.py", "--multirun", "J=2", "model.batch_norm=false", "k=1,0"])
    assert failure.job == "#1 (k=0)"
    assert replace(failure, overrides=("model.batch_norm=False", "k=0")).job == "#1 (k=0)"  # as Hydra writes it
    monkeypatch.setattr(sys, "argv", ["train.py", "--multirun", "J=2", "k=0"])
    assert failure.job == "#1 (J=2, k=0)"


def search(multirun: TrainPy, *words: str, trials: int = 3, **overrides) -> Outcome:
    options = {"dataset.validation": 0.2, **overrides}
    return multirun("hydra/sweeper=optuna", f"hydra.sweeper.n_trials={trials}", *words, **options)


LEARNING_RATE = "optimizer.lr=tag(log,interval(0.0001,0.3))"


def validation(results: dict) -> float:
    return results["blocks"][-1]["validation"]["top1"]


def test_a_search_maximises_validation_accuracy_and_goes_on_with_the_same_trials(multirun, tmp_path):
    outcome = search(multirun, LEARNING_RATE, trials=2)
    assert outcome.code == 0, outcome.err
    first = {from_yaml(folder / "config.yaml").optimizer.lr for folder in runs_of(tmp_path)}
    assert len(first) == 2
    outcome = search(multirun, LEARNING_RATE, trials=4)
    assert outcome.err.count("this run is finished") == 2
    runs = runs_of(tmp_path)
    assert len(runs) == 4
    best = max(runs, key=lambda folder: validation(runs[folder]))
    rate, accuracy = from_yaml(best / "config.yaml").optimizer.lr, validation(runs[best])
    assert accuracy > min(map(validation, runs.values()))  # else the direction would not show
    found = yaml.safe_load((tmp_path / "out" / "optimization_results.yaml").read_text())
    assert (found["best_params"], found["best_value"]) == ({"optimizer.lr": rate}, accuracy)
    assert outcome.out.splitlines()[-2:] == [
        f"best trial: optimizer.lr={rate}, validation {accuracy:.2f} %",
        f"search: {tmp_path / 'out' / 'optimization_results.yaml'}",
    ]


@pytest.mark.parametrize(
    ("words", "trials", "options", "code", "failed", "best"),
    [
        ("optimizer.lr=choice(1e12,0.01)", 3, DIVERGES, 0, "NaN", "optimizer.lr=0.01"),
        ("optimizer.lr=interval(1e12,1e13)", 2, DIVERGES, 1, "2 of 2 jobs failed", None),
        ("k=choice(1,0)", 3, {"k": None}, 1, "k=0: must be 1 or more.", "k=1"),
        (LEARNING_RATE, 1, {"dataset.validation": 0, "dataset.folds": 3}, 0, None, "optimizer.lr="),
    ],
    ids=["a trial diverges", "all diverge", "a trial fails otherwise", "folds hold samples out, too"],
)
def test_failed_trials_are_named_and_the_others_count(multirun, words, trials, options, code, failed, best):
    """A trial that diverges is a result; one that fails otherwise fails the search at its end."""
    outcome = search(multirun, words, trials=trials, **options)
    assert outcome.code == code, outcome.err
    assert failed is None or failed in summary_of(outcome)
    assert (f"best trial: {best}" in outcome.out) if best else ("best trial" not in outcome.out)


@pytest.mark.parametrize(("key", "value"), [("dataset.validation", 0), ("summary", "table")])
def test_a_search_needs_held_out_samples_and_refuses_summaries(multirun, tmp_path, key, value):
    outcome = search(multirun, LEARNING_RATE, **{key: value})
    assert outcome.code == 2
    assert_refused(outcome, key)
    assert runs_of(tmp_path) == {}


def test_without_its_plugin_a_search_names_the_command_that_installs_it(multirun, monkeypatch):
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["sweeper"], "sampler")
    outcome = search(multirun, LEARNING_RATE)
    assert outcome.code == 2
    assert outcome.err.startswith("error: hydra/sweeper=optuna: needs a plugin: pip install ")
    assert len(outcome.err.splitlines()) == 1


def test_a_data_base_that_the_installed_libraries_cannot_make_is_refused(multirun, tmp_path, monkeypatch):
    monkeypatch.setattr("layerwise.commands.multirun.version", lambda name: "2.1.9")
    outcome = search(multirun, f"hydra.sweeper.storage=sqlite:///{tmp_path / 'study.db'}", LEARNING_RATE)
    assert outcome.code == 2
    assert outcome.err.startswith("error: hydra.sweeper.storage: ")
    assert not (tmp_path / "study.db").exists()


def test_hydra_is_as_multirun_and_the_messages_rely_on():
    """What layerwise uses of Hydra beyond its documentation: if this fails, messages to users have become worse."""
    assert hydra.__version__.startswith("1.3.")
    assert "Plugins.instance().instantiate_launcher(" in inspect.getsource(BasicSweeper.setup)
    assert list(inspect.signature(Launcher.launch).parameters) == ["self", "job_overrides", "initial_job_idx"]
    with pytest.raises(HydraException, match=r"^Could not override 'model.widht'\.\s+To append"):
        composed("model.widht=3")
    with pytest.raises(MissingConfigException) as missing:
        composed("model=simcn")
    assert (missing.value.missing_cfg_file, "simcnn" in missing.value.options) == ("model/simcn", True)


@pytest.mark.parametrize("sweeper", ["halving", "hyperband"])
def test_bad_trials_end_between_blocks_and_the_same_command_makes_the_same_decisions(multirun, tmp_path, sweeper):
    options = {"J": 4, "epochs": 1, "dataset.limit": 500, "dataset.validation": 0.2}
    words = [f"hydra/sweeper={sweeper}", "hydra.sweeper.n_trials=9", LEARNING_RATE]
    outcome = multirun(*words, **options)
    assert outcome.code == 0, outcome.err
    runs = runs_of(tmp_path)
    ended = [results for results in runs.values() if results["status"] == "ended early"]
    whole = [results for results in runs.values() if results["status"] == "completed"]
    assert ended
    assert whole
    assert len(ended) + len(whole) == len(runs) == 9
    assert all(len(results["blocks"]) < 4 for results in ended)
    assert all(len(results["blocks"]) == 4 for results in whole)
    assert "the search ended it after block" in " ".join(outcome.out.split())
    first, second = (
        statistics.mean(results["blocks"][0]["validation"]["top1"] for results in of) for of in (whole, ended)
    )
    assert first > second
    trained = {folder: results["blocks"] for folder, results in runs.items()}
    assert multirun(*words, **options).code == 0
    assert {folder: results["blocks"] for folder, results in runs_of(tmp_path).items()} == trained


def test_a_trial_that_ended_early_is_trained_to_its_end_by_itself(multirun, train_py, tmp_path):
    options = {"J": 2, "epochs": 1, "dataset.limit": 500, "dataset.validation": 0.2}
    assert multirun("hydra/sweeper=halving", "hydra.sweeper.n_trials=6", LEARNING_RATE, **options).code == 0
    folder = next(path for path, results in runs_of(tmp_path).items() if results["status"] == "ended early")
    table = run_script("collect", str(tmp_path))
    assert (table.code, table.err, "| ended early |" in table.out) == (0, "", True)
    rate = from_yaml(folder / "config.yaml").optimizer.lr
    assert train_py(**QUICK | options | {"optimizer.lr": rate}).code == 0
    results = results_of(folder)
    assert (results["status"], len(results["blocks"])) == ("completed", 2)


def test_only_greedy_trials_in_this_process_end_early(multirun):
    options = {"dataset.validation": 0.2}
    outcome = multirun("hydra/sweeper=halving", LEARNING_RATE, "hydra.sweeper.n_trials=2", plan="joint", **options)
    assert_refused(outcome, "plan=joint: only the trials of plan=greedy end early")
    outcome = multirun("hydra/sweeper=halving", LEARNING_RATE, "hydra/launcher=submitit_local", **options)
    assert_refused(outcome, "not jobs of another launcher")
