"""report.html: what it shows of every kind of run, that values are escaped, and that it never fails a run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from helpers.commands import run_script
from helpers.configs import configured
from helpers.run_folders import only_run, results_of
from layerwise.__main__ import main
from layerwise.config.identity import run_name
from layerwise.core.errors import Interrupted
from layerwise.experiment import recorder
from layerwise.experiment import run as experiment
from layerwise.reporting.html.charts import all_charts
from layerwise.reporting.html.page import render
from layerwise.reporting.html.paper_figures import experiment_of
from layerwise.reporting.html.pictures import data_uri, filter_pictures
from layerwise.reporting.html.quality_charts import macs_of_leaving
from layerwise.reporting.html.reported_run import labelled, read_run
from layerwise.reporting.html.samples import SAMPLES, choose, read_samples

REPORTED = {"report": "true", "epochs": 1}
MOST_BYTES = 5_000_000


class Page(HTMLParser):
    """Headings, alternative texts and specifications of a page, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: list[str | None] = []
        self.loaded: list[str] = []
        self.scripts = 0
        self.data: dict[str, str] = {}
        self.words = ""
        self._inside: list[str] = []
        self._id = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._inside.append(tag)
        self._id = given.get("id") or ""
        self.scripts += tag == "script"
        if tag == "img":
            self.images.append(given.get("alt"))
        self.loaded += [given[name] for name in ("src", "href") if name in given and given[name][0] != "#"]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside[-1:] == ["script"]:
            self.data[self._id] = self.data.get(self._id, "") + data
        elif "style" not in self._inside:
            self.words += data
            if self._inside and self._inside[-1] in ("h1", "h2", "h3"):
                self.headings.append(data.strip())

    @property
    def specs(self):
        return json.loads(self.data["specs"])


def page_of(folder: Path) -> Page:
    text = (folder / "report.html").read_text()
    assert len(text.encode()) < MOST_BYTES
    page = Page(text)
    assert all(address.startswith("data:") for address in page.loaded)  # nothing comes from elsewhere
    assert all(page.images) or not page.images  # each has its alternative text
    return page


def test_a_run_ends_by_printing_the_path_of_its_report(train_py, tmp_path):
    outcome = train_py(**{**REPORTED, "epochs": 2})
    folder = only_run(tmp_path)
    assert outcome.out.splitlines()[-2:] == [f"run folder: {folder}", f"report: {folder / 'report.html'}"]
    page = page_of(folder)
    top1 = results_of(folder)["final"]["test_top1"]
    assert f"{top1:.2f} %" in page.words
    assert "layerwise train dataset=digits k=2 J=2 epochs=2" in page.words
    wanted = {"accuracy", "anytime", "loss-curves", "training-curves", "weights", "time", "memory", "confusion-1"}
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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_has_a_sensible_page(kind, train_py, tmp_path):
    outcome = train_py(**REPORTED, **KINDS[kind])
    assert outcome.code == 0, outcome.err
    assert "could not be made" not in outcome.err
    page = page_of(only_run(tmp_path))
    specs = set(page.specs)
    assert {"loss-curves", "time"} <= specs
    classifying = [row for row in results_of(only_run(tmp_path))["blocks"] if "test" in row]
    assert ("weights" in specs) == (len(classifying) > 1) == (kind not in ("one block", "joint"))
    assert ("reconstruction" in specs) == (kind == "autoencoder")
    assert ("First filters" in page.headings) == (kind not in ("vectors", "autoencoder"))
    assert "nan" not in page.words.lower().split()


def test_an_unfinished_run_has_a_page_without_what_is_missing(train_py, tmp_path):
    train_py(**REPORTED)
    folder = only_run(tmp_path)
    for name in ("results.json", SAMPLES, "report.html"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints")
    assert run_script("make_report", str(folder)).code == 0
    page = page_of(folder)
    assert "Not complete (not begun to report)." in page.words
    assert set(page.specs) == {"loss-curves", "training-curves"}


def test_a_report_that_fails_is_one_warning(train_py, tmp_path, monkeypatch):
    def fail(*_):
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


def test_values_are_escaped_also_inside_json(train_py, tmp_path):
    train_py(**REPORTED)
    folder = only_run(tmp_path).rename(tmp_path / "<script>alert(1)<")
    results = results_of(folder)
    results["name"] = HOSTILE
    results["classification"]["classes"][0] = HOSTILE
    (folder / "results.json").write_text(json.dumps(results))
    spec = json.loads((folder / "dataset.json").read_text())
    spec["classes"][0] = HOSTILE
    (folder / "dataset.json").write_text(json.dumps(spec))
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
    assert page.headings[:2] == ["2 runs compared", "Runs"]
    rows = page.specs["accuracy"]["data"]["values"]
    assert [(row["run"], row["block"], row["predictor"]) for row in rows] == [
        *(("greedy", block, predictor) for block in (1, 2) for predictor in ("head", "ensemble")),
        ("joint", 2, "head"),
    ]
    differing = re.findall(r'<tr class="differs"><th scope="row">([^<]*)', text)
    assert "plan.name" in differing
    assert "dataset.name" not in differing


def test_make_report_says_what_it_cannot_read(tmp_path):
    for folder, problem in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no runs")):
        outcome = run_script("make_report", str(folder))
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: {folder}: {problem}")


def test_the_cost_of_leaving_is_that_of_the_blocks_and_one_head(train_py, tmp_path):
    train_py(**REPORTED)
    run = read_run(only_run(tmp_path))
    first, second = run.anatomy.costs
    assert macs_of_leaving(run, 1) == first.block_macs + first.head_macs
    assert macs_of_leaving(run, 2) == first.block_macs + second.block_macs + second.head_macs
    (anytime,) = [chart for chart in all_charts([run]) if chart.id == "anytime"]
    assert [row["mmacs"] * 1e6 for row in anytime.rows] == [macs_of_leaving(run, j) for j in (1, 2)]
    # what scripts/anytime.py found stands beside it
    point = {"exits": [1, 2], "macs": 1.5e6, "test_top1": 50.0}
    (only_run(tmp_path) / "anytime.json").write_text(json.dumps({"points": [point]}))
    (anytime,) = [chart for chart in all_charts([read_run(only_run(tmp_path))]) if chart.id == "anytime"]
    assert (anytime.rows[-1]["leaves"], anytime.rows[-1]["mmacs"]) == ("when confident", 1.5)


def points(folder: Path) -> list[dict]:
    """Of the plot of accuracy against cost in a folder's report."""
    return page_of(folder).specs["anytime"]["data"]["values"]


@pytest.mark.parametrize(
    "options",
    [
        {"plan.patience": 1, "dataset.validation": 0.25},
        {"plan.finetune.epochs": 1},
        {"plan.prune_to": 4, "plan.prune_epochs": 1},
    ],
    ids=["patience", "finetune", "pruned"],
)
def test_a_report_made_later_has_the_costs_of_the_run_s_own(options, train_py, tmp_path, monkeypatch):
    # the first depth is the best, though a second one was trained
    monkeypatch.setattr("layerwise.training.plan.Agenda._best", lambda *_: 1 if "plan.patience" in options else 2)
    assert train_py(**REPORTED, **options).code == 0
    folder = only_run(tmp_path)
    own = points(folder)
    assert run_script("make_report", str(folder)).code == 0
    assert points(folder) == own
    run = read_run(folder)
    assert [cost.head_macs > 0 for cost in run.anatomy.costs] == [True, True]
    assert [point["mmacs"] * 1e6 for point in own] == [macs_of_leaving(run, j) for j in (1, 2)]
    assert own[0]["mmacs"] < own[1]["mmacs"]


TRAINED = {
    "simultaneous": ({"plan": "simultaneous", "plan.epochs": 1, "plan.finetune.epochs": 1}, ["blocks 1–2, blocks 1–2"]),
    "greedy": ({"plan.finetune.epochs": 1}, ["block 1", "block 2, blocks 1–2"]),
    "pruned": (KINDS["pruned"], ["block 1, head 1", "block 2, head 2"]),
}


@pytest.mark.parametrize("kind", TRAINED)
def test_times_are_those_of_stages_each_once(kind, train_py, tmp_path):
    options, places = TRAINED[kind]
    train_py(epochs=1, **options)
    run = read_run(only_run(tmp_path))
    (chart,) = [chart for chart in all_charts([run]) if chart.id == "time"]
    assert list(dict.fromkeys(row["place"] for row in chart.rows)) == places
    assert sum(row["seconds"] for row in chart.rows) == pytest.approx(run.seconds)
    first = run.results["blocks"][-1]
    reused = replace(run, results=run.results | {"blocks": [first | {"reused": "elsewhere"}]})
    assert not [chart for chart in all_charts([reused]) if chart.id == "time"]


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


def test_samples_are_those_that_later_depths_learn():
    labels = torch.tensor([0, 0, 0, 0, 0, 0])
    predicted = torch.tensor([[0, 1, 1, 1, 0, 1], [0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1]])
    # sample 0 was never missed, 5 always; 2 and 4 are right from the third depth on, 1 and 3 from the second
    assert choose(predicted, labels, most=10).tolist() == [2, 1, 4, 3]
    assert choose(predicted, labels, most=2).tolist() == [2, 1]
    assert choose(predicted[:1], labels, most=2).tolist() == []


def test_samples_of_a_run_are_test_images_with_their_answers(train_py, tmp_path):
    train_py(**{**REPORTED, "epochs": 3, "dataset.limit_test": None, "J": 3})
    samples = read_samples(only_run(tmp_path))
    wrong = samples.predicted != samples.labels
    assert not wrong[-1].any()
    assert wrong.any(dim=0).all()
    assert list(samples.depths) == [1, 2, 3]
    assert samples.images.shape[1:] == (8, 8, 1)
    assert samples.images.dtype == torch.uint8
    shown = samples.images.reshape(len(samples.images), -1).float() / 255
    digits = torch.tensor(load_digits().data).float() / 16
    nearest = torch.cdist(shown, digits).argmin(dim=1)
    assert torch.allclose(shown, digits[nearest], atol=0.003)
    assert samples.labels.tolist() == load_digits().target[nearest].tolist()


def test_labels_name_as_few_keys_as_tell_runs_apart(train_py, tmp_path):
    for more in ({"k": 1}, {"k": 2}, {"k": 2, "seed": 1}):
        train_py(**REPORTED | more)
    runs = labelled([read_run(folder) for folder in sorted((tmp_path / "out").iterdir())])
    assert [run.label for run in runs] == ["k = 1, seed = 0", "k = 2, seed = 0", "k = 2, seed = 1"]
    twice = labelled([runs[0], runs[0]])
    assert len({run.label for run in twice}) == 2


def test_runs_of_networks_with_different_keys_are_compared(train_py, tmp_path):
    train_py(epochs=1, J=1, **{"model.downsample": "[]"})
    train_py(epochs=1, J=1, model="mlp", **dict.fromkeys(("model.downsample", "model.head_width")))
    runs = labelled([read_run(folder) for folder in sorted((tmp_path / "out").iterdir())])
    assert [run.label for run in runs] == ["mlp", "simcnn"]
    assert "2 runs compared" in render(runs)


def test_the_command_is_the_one_that_began_the_run(train_py, tmp_path):
    assert train_py("name='my run (1)'", "seed=3", "J=1", **{"model.downsample": "[]"}).code == 0
    given, folder = sys.argv[1:], only_run(tmp_path)
    train_py(
        "name='my run (1)'", "J=1", "seed=3", "logger=none", **{"model.downsample": "[]"}
    )  # a later command of the same run
    assert shlex.split(read_run(folder).command) == ["layerwise", "train", *given]


def test_an_old_folder_has_a_command_that_reads_its_configuration(train_py, tmp_path, monkeypatch, capfd):
    train_py(epochs=1, name="run")
    folder = only_run(tmp_path)
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


def test_the_home_folder_is_not_shown(train_py, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    train_py(**REPORTED)
    page = page_of(only_run(tmp_path))
    assert str(tmp_path) not in page.words
    assert "output_dir=~/out" in page.words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["experiment=paper_cifar10_k2", "seed=3"], "paper_cifar10_k2"),
        (["experiment=paper_cifar10_k2", "model.width=16"], "paper_cifar10_k2"),
        (["experiment=paper_imagenet_k3_head512"], "paper_imagenet_k3_head512"),
        (["experiment=paper_imagenet_vgg11"], "paper_imagenet_vgg11"),
        (["experiment=baseline_cifar10_vgg11"], "baseline_cifar10_vgg11"),
        (["experiment=baseline_imagenet_vgg11_joint"], "baseline_imagenet_vgg11_joint"),
        (["dataset=digits"], None),
        (["k=3", "plan=joint"], None),
    ],
)
def test_the_papers_figure_stands_beside_its_network(words, expected):
    assert experiment_of(configured(*words)) == expected


def test_filters_share_one_scale_around_grey():
    filters = torch.tensor([[[[0.0, 0.5]]], [[[-1.0, 0.25]]]])
    assert [picture.flatten().tolist() for picture in filter_pictures(filters)] == [[128, 191], [0, 159]]
    assert data_uri(filter_pictures(filters)[0]).startswith("data:image/png;base64,")


def test_a_long_stage_is_thinned_and_its_table_has_the_last_epochs(train_py, tmp_path):
    train_py(**{**REPORTED, "J": 1, "model.downsample": "[]"})
    folder = only_run(tmp_path)
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    lines = [json.dumps(line | {"epoch": epoch, "loss": 1 / epoch}) for epoch in range(1, 1001)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"stage": 1, "ep')
    (chart,) = [chart for chart in all_charts([read_run(folder)]) if chart.id == "loss-curves"]
    values = chart.spec["data"]["values"]
    assert len(values) == 200
    assert values[-1]["epoch"] == 1000
    assert [row["epoch"] for row in chart.rows] == [1000]


def test_many_runs_stay_below_the_size_limit(train_py, tmp_path):
    train_py(**REPORTED)
    run = read_run(only_run(tmp_path))
    assert len(render([run] * 40).encode()) < MOST_BYTES


def test_an_interrupted_run_leaves_a_report(train_py, tmp_path, monkeypatch):
    def stop(*arguments):
        original(*arguments[:2], lambda: (_ for _ in ()).throw(Interrupted("stopped", 15)))

    original = experiment.train_stages
    monkeypatch.setattr(experiment, "train_stages", stop)
    assert train_py(**REPORTED).code == 143
    page = page_of(only_run(tmp_path))
    assert "Not complete (interrupted)." in page.words
    assert "accuracy" in page.specs


def test_report_is_no_part_of_what_is_computed():
    assert run_name(configured("report=true")) == run_name(configured("report=false"))
