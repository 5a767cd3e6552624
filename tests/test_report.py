"""report.html: what it shows of every kind of run, that values are escaped, and that it never fails a run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys

import pytest

from helpers.commands import run_script
from helpers.page import Page, page_of
from helpers.run_folders import only_run, results_of, rewrite_results
from layerwise.__main__ import main
from layerwise.core.errors import Interrupted
from layerwise.experiment import recorder
from layerwise.experiment import run as experiment
from layerwise.reporting.html.reported_run import read_run
from layerwise.reporting.samples import SAMPLES
from layerwise.runs.run_files import sealed

REPORTED = {"report": "true", "epochs": 1}


def test_a_run_ends_by_printing_the_path_of_its_report(train_py, tmp_path):
    outcome = train_py(**{**REPORTED, "epochs": 2})
    folder = only_run(tmp_path)
    assert outcome.out.splitlines()[-2:] == [f"run folder: {folder}", f"report: {folder / 'report.html'}"]
    page = page_of(folder)
    top1 = results_of(folder)["final"]["test_top1"]
    assert f"{top1:.2f} %" in page.words
    assert "layerwise train dataset=digits k=2 J=2 epochs=2" in page.words
    wanted = {"accuracy", "anytime", "loss-curves", "training-curves", "time", "memory", "storage", "confusion-1"}
    assert set(page.specs) == wanted
    assert "First filters" in page.headings
    assert "warning" not in outcome.err
    # a finished run prints it again
    assert train_py(**{**REPORTED, "epochs": 2}).out.splitlines()[-1] == f"report: {folder / 'report.html'}"


def test_report_false_writes_none(train_py, tmp_path):
    outcome = train_py(epochs=1, **KINDS["one block"])
    assert "report:" not in outcome.out
    assert not {"report.html", SAMPLES} & {path.name for path in only_run(tmp_path).iterdir()}


KINDS = {
    "one block": {"J": 1, "model.downsample": "[]"},
    "joint": {"plan": "joint", "plan.epochs": 1},
    "simultaneous": {"plan": "simultaneous", "plan.epochs": 1},
    "vectors": {
        **dict.fromkeys(("model.width", "model.head_width", "model.downsample")),
        "dataset": "blobs",
        "model": "mlp",
        "model.widths": "[6,4]",
        "k": 1,
        "J": None,
    },
    "autoencoder": {
        **dict.fromkeys(("model.head_width", "model.downsample")),
        "plan": "autoencoder",
        "model": "mlp",
        "k": 1,
        "dataset.standardise": "false",
    },
    "pruned": {"plan.prune_to": 4, "plan.prune_epochs": 1},
}


WORDS = {
    "one block": "SimCNN, k = 2, on digits, greedy, 1 block",
    "joint": "SimCNN, k = 2, on digits, end to end, 2 blocks",
    "simultaneous": "SimCNN, k = 2, on digits, simultaneous, 2 blocks",
    "vectors": "perceptron, on blobs, greedy, 2 blocks",
    "autoencoder": "perceptron, on digits, stacked autoencoder, 2 blocks",
    "pruned": "SimCNN, k = 2, on digits, greedy, 2 blocks, pruned to 4 filters",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_has_a_sensible_page(kind, train_py, tmp_path):
    outcome = train_py(**REPORTED, **KINDS[kind])
    assert outcome.code == 0, outcome.err
    assert "could not be made" not in outcome.err
    page = page_of(only_run(tmp_path))
    specs = set(page.specs)
    assert {"loss-curves", "time"} <= specs
    assert f"\n{WORDS[kind]}\n" in page.words
    assert ("Each stage begins anew" in page.words) == (kind not in ("one block", "joint", "simultaneous"))
    assert ("test reconstruction error" in page.words) == ("reconstruction-curves" in specs) == (kind == "autoencoder")
    classifying = [row for row in results_of(only_run(tmp_path))["blocks"] if "test" in row]
    assert ("anytime" in specs) == (len(classifying) > 1) == (kind not in ("one block", "joint"))
    assert ("reconstruction" in specs) == (kind == "autoencoder")
    assert ("First filters" in page.headings) == (kind not in ("vectors", "autoencoder"))
    assert "nan" not in page.words.lower().split()


def test_an_unfinished_run_has_a_page_without_what_is_missing(trained):
    folder = trained(**REPORTED)
    for name in ("results.json", SAMPLES, "report.html"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints")
    assert run_script("make_report", str(folder)).code == 0
    page = page_of(folder)
    assert "Not complete (not begun to report)." in page.words
    assert set(page.specs) == {"loss-curves", "training-curves"}


def test_a_report_that_fails_is_one_warning(train_py, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(recorder, "read_run", fail)
    outcome = train_py(**REPORTED)
    assert outcome.code == 0
    assert results_of(only_run(tmp_path))["status"] == "completed"
    assert [line for line in outcome.err.splitlines() if "warning" in line] == [
        f"warning: {only_run(tmp_path) / 'report.html'} could not be made: no ink"
    ]
    assert "report:" not in outcome.out


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_values_are_escaped_also_inside_json(trained, tmp_path):
    folder = trained(**REPORTED).rename(tmp_path / "<script>alert(1)<")
    results = results_of(folder)
    results["name"] = HOSTILE
    results["classification"]["classes"][0] = HOSTILE
    rewrite_results(folder, results)
    spec = json.loads((folder / "dataset.json").read_text())
    spec["classes"][0] = HOSTILE
    (folder / "dataset.json").write_text(json.dumps(sealed(spec)))
    assert run_script("make_report", str(folder)).code == 0
    page = page_of(folder)
    assert HOSTILE in page.words
    assert page.headings[0] == HOSTILE
    assert page.scripts == 3  # the data, Vega, and the page's own
    assert HOSTILE in {row["true"] for row in page.specs["confusion-1"]["data"]["values"]}


def test_runs_are_compared_by_what_differs(train_py, tmp_path):
    train_py(**REPORTED)
    train_py(**REPORTED, plan="joint", **{"plan.epochs": 1})
    outcome = run_script("make_report", str(tmp_path / "out"), "--output", str(tmp_path / "all.html"))
    assert outcome.out == f"report: {tmp_path / 'all.html'}\n"
    text = (tmp_path / "all.html").read_text()
    page = Page(text)
    assert page.headings[:2] == ["greedy against end to end: SimCNN, k = 2, on digits, 1 seed each", "Runs"]
    rows = page.specs["accuracy"]["data"]["values"]
    assert [(row["group"], row["block"], row["predictor"]) for row in rows] == [
        *(("greedy", block, predictor) for block in (1, 2) for predictor in ("head", "ensemble")),
        ("end to end", 2, "head"),
    ]
    differing = re.findall(r'<tr class="differs"><th scope="row">([^<]*)', text)
    assert "plan.name" in differing
    assert not {"dataset.name", "plan.warm_start"} & {*differing}  # which only one of the plans has


def test_runs_that_cannot_be_read_are_left_out_of_a_comparison(train_py, tmp_path):
    train_py(**REPORTED)
    with open(only_run(tmp_path) / "metrics.jsonl", "a") as file:
        file.write('{"stage": 2, "ep\n')  # torn, and the run went on
    begun = tmp_path / "out" / "begun"
    begun.mkdir()
    (begun / ".lock").touch()
    outcome = run_script("make_report", str(tmp_path / "out"), "--output", str(tmp_path / "all.html"))
    assert outcome.code == 0
    (warning,) = outcome.err.splitlines()
    assert warning.startswith(f"warning: a run is left out: {begun}")
    assert "accuracy" in Page((tmp_path / "all.html").read_text()).specs
    assert run_script("make_report", str(begun)).err.startswith(f"error: {begun}")


def test_the_command_is_the_one_that_began_the_run(train_py, tmp_path):
    assert train_py("name='my run (1)'", "seed=3", "J=1", **{"model.downsample": "[]"}).code == 0
    given, folder = sys.argv[1:], only_run(tmp_path)
    train_py(
        "name='my run (1)'", "J=1", "seed=3", "logger=none", **{"model.downsample": "[]"}
    )  # a later command of the same run
    assert shlex.split(read_run(folder).command) == ["layerwise", "train", *given]


def test_an_old_folder_has_a_command_that_reads_its_configuration(trained, monkeypatch, capfd):
    folder = trained(epochs=1, name="run")
    (folder / "command.txt").unlink()
    command, *words = shlex.split(read_run(folder).command)
    assert command == "layerwise"
    monkeypatch.chdir(folder.parent)
    main(words)
    assert "this run is finished" in capfd.readouterr().err


def test_each_job_of_a_multirun_has_its_own_command(train_py, tmp_path):
    train_py("seed=0,1", "--multirun", epochs=1, J=1, **{"model.downsample": "[]"})
    commands = sorted(path.read_text().split()[-1] for path in (tmp_path / "out").glob("*/command.txt"))
    assert commands == ["seed=0", "seed=1"]


def test_the_home_folder_is_not_shown(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    page = page_of(trained(**REPORTED))
    assert str(tmp_path) not in page.words
    assert "output_dir=~/out" in page.words


def test_an_interrupted_run_leaves_a_report(train_py, tmp_path, monkeypatch):
    def stop(*arguments):
        original(*arguments[:2], lambda: (_ for _ in ()).throw(Interrupted("stopped", 15)))

    original = experiment.train_stages
    monkeypatch.setattr(experiment, "train_stages", stop)
    assert train_py(**REPORTED).code == 143
    page = page_of(only_run(tmp_path))
    assert "Not complete (interrupted)." in page.words
    assert "accuracy" in page.specs
