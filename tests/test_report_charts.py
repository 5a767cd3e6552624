"""What the charts, samples and labels of a report show."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest
from sklearn.datasets import load_digits

from helpers.commands import run_script
from helpers.configs import configured
from helpers.page import MOST_BYTES, Page, page_of
from layerwise.config.networks.timm import TimmConfig
from layerwise.config.plans.base import FinetuneConfig
from layerwise.core.colours import further_colour
from layerwise.core.spread import binomial_margin, r2_margin
from layerwise.reporting.html.charts import all_charts
from layerwise.reporting.html.confusion import confusion
from layerwise.reporting.html.groups import colours_beyond_the_palette, grouped
from layerwise.reporting.html.page import GroupView, render
from layerwise.reporting.html.paper_figures import experiment_of
from layerwise.reporting.html.pictures import data_uri, filter_pictures
from layerwise.reporting.html.quality_charts import macs_of_leaving
from layerwise.reporting.html.reported_run import read_run
from layerwise.reporting.html.vega import SINGLE
from layerwise.reporting.html.words import kind_of, magnitude, weak_depths
from layerwise.reporting.samples import choose, missed, read_samples

REPORTED = {"report": "true", "epochs": 1}


def test_the_cost_of_leaving_is_that_of_the_blocks_and_one_head(trained):
    folder = trained(**REPORTED)
    run = read_run(folder)
    first, second = run.anatomy.costs
    assert macs_of_leaving(run, 1) == first.block_macs + first.head_macs
    assert macs_of_leaving(run, 2) == first.block_macs + second.block_macs + second.head_macs
    (anytime,) = [chart for chart in all_charts([run]) if chart.id == "anytime"]
    assert [row["macs"] for row in anytime.rows] == [macs_of_leaving(run, j) for j in (1, 2)]
    # what scripts/anytime.py found stands beside it
    point = {"exits": [1, 2], "macs": 1.5e6, "test_top1": 50.0}
    (folder / "anytime.json").write_text(json.dumps({"points": [point]}))
    (anytime,) = [chart for chart in all_charts([read_run(folder)]) if chart.id == "anytime"]
    assert (anytime.rows[-1]["leaves"], anytime.rows[-1]["macs"]) == ("when confident", 1.5e6)


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
def test_a_report_made_later_has_the_costs_of_the_run_s_own(options, trained, monkeypatch):
    # the first depth is the best, though a second one was trained
    monkeypatch.setattr("layerwise.training.plan.Agenda._best", lambda *_: 1 if "plan.patience" in options else 2)
    folder = trained(**REPORTED, **options)
    own = points(folder)
    assert run_script("make_report", str(folder)).code == 0
    assert points(folder) == own
    run = read_run(folder)
    assert [cost.head_macs > 0 for cost in run.anatomy.costs] == [True, True]
    assert [point["macs"] for point in own] == [macs_of_leaving(run, j) for j in (1, 2)]
    assert own[0]["macs"] < own[1]["macs"]


TRAINED = {
    "simultaneous": ({"plan": "simultaneous", "plan.epochs": 1, "plan.finetune.epochs": 1}, ["blocks 1–2, blocks 1–2"]),
    "greedy": ({"plan.finetune.epochs": 1}, ["block 1", "block 2, blocks 1–2"]),
    "pruned": ({"plan.prune_to": 4, "plan.prune_epochs": 1}, ["block 1, head 1", "block 2, head 2"]),
}


@pytest.mark.parametrize("kind", TRAINED)
def test_times_are_those_of_stages_each_once(kind, trained):
    options, places = TRAINED[kind]
    run = read_run(trained(epochs=1, **options))
    (chart,) = [chart for chart in all_charts([run]) if chart.id == "time"]
    assert list(dict.fromkeys(row["place"] for row in chart.rows)) == places
    assert sum(row["seconds"] for row in chart.rows) == pytest.approx(run.seconds)
    first = run.results["blocks"][-1]
    reused = replace(run, results=run.results | {"blocks": [first | {"reused": "elsewhere"}]})
    assert not [chart for chart in all_charts([reused]) if chart.id == "time"]


def test_depths_that_know_less_than_an_earlier_one_are_named(seeds):
    assert weak_depths(seeds[0]) == []
    first, second = seeds[0].rows
    errors = [{"reconstruction": {"test": {"loss": loss}}} for loss in (0.02, 0.05)]
    rows = [first | errors[0], second | errors[1] | {"test": second["test"] | {"top1": 10.0}}]
    run = replace(seeds[0], results=seeds[0].results | {"blocks": rows})
    sentences = [
        "Depth 2 collapsed: its error is 2.5 times the best before it.",
        "Depth 2 predicts no better than chance (1 in 10).",
    ]
    assert weak_depths(run) == sentences
    assert all(words in Page(render([run])).words for words in sentences)
    assert f"greedy, seed = 0: {sentences[0]}" in Page(render([run, *seeds[1:]])).words


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (842, "842"), (10_082, "10.1 k"), (999_960, "1 M"), (2_340_000, "2.34 M"), (96e9, "96 G")],
)
def test_costs_have_a_unit_that_fits(value, text):
    assert magnitude(value) == text


def test_only_a_simcnn_has_the_papers_k(seeds):
    run = seeds[0]
    timm = replace(run, config=replace(run.config, model=TimmConfig(name="resnet18")))
    assert kind_of(timm).startswith("timm's resnet18, on digits, greedy")
    tuned = replace(run.config.plan, finetune=FinetuneConfig(epochs=2))
    words = kind_of(replace(run, config=replace(run.config, plan=tuned)))
    assert words.endswith("2 blocks, then fine-tuned for 2 epochs")
    assert "predicts price" in kind_of(replace(run, spec=replace(run.spec, target="price")))


def test_memory_is_shown_part_by_part_and_of_a_comparison_for_the_block_that_needs_most(seeds):
    def with_parts(run, *activations: float, cache: float = 0.0):
        parts = {"parameters": 1.0, "cache": cache, "data": 2.0}
        rows = [row | {"memory_mb": parts | {"activations": a}} for row, a in zip(run.rows, activations, strict=True)]
        return replace(run, results=run.results | {"blocks": rows})

    def shown(runs: list, part: str, chart: str = "memory") -> list[tuple]:
        (found,) = [made for made in all_charts(runs) if made.id == chart]
        return [(row["place"], row["memory"]) for row in found.rows if row["part"] == part]

    greedy, joint = grouped([with_parts(seeds[0], 5.0, 3.0, cache=90.0), with_parts(seeds[2], 9.0)])
    assert shown(greedy.runs, "activations") == [("block 1", 5.0), ("block 2", 3.0)]
    both = [*greedy.runs, *joint.runs]
    assert shown(both, "activations") == [("greedy", 5.0), ("end to end", 9.0)]
    assert shown(both, "cache", "storage") == [("greedy", 90.0), ("end to end", 0.0)]
    assert shown(both, "cache") == []  # what is cached does not hide what the training takes
    text = render(both)
    assert "greedy: 0.60 × the memory of end to end, 0.56 × its activations." in text
    assert [view.memory for view in map(GroupView, (greedy, joint))] == [6.0, 10.0]
    old = [{name: value for name, value in row.items() if name != "memory_mb"} for row in seeds[0].rows]
    (peaks,) = [
        made
        for made in all_charts([replace(seeds[0], results=seeds[0].results | {"blocks": old})])
        if made.id == "memory"
    ]
    assert peaks.rows[0]["memory"] == old[0]["peak_memory_mb"]


def test_each_plot_has_its_place_on_the_page(trained):
    runs = [read_run(trained(**REPORTED, seed=seed, **{"evaluation.gradients": True})) for seed in (0, 1)]
    page = Page(render(runs))
    assert {chart.title for chart in all_charts(runs)} <= set(page.headings)
    assert "gradients" in page.specs


def test_samples_are_those_that_later_depths_learn():
    labels = torch.tensor([0, 0, 0, 0, 0, 0])
    predicted = torch.tensor([[0, 1, 1, 1, 0, 1], [0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1]])
    # sample 0 was never missed, 5 always; 2 and 4 are right from the third depth on, 1 and 3 from the second
    assert choose(predicted, labels, most=10).tolist() == [2, 1, 4, 3]
    assert choose(predicted, labels, most=2).tolist() == [2, 1]
    assert choose(predicted[:1], labels, most=2).tolist() == []


def test_samples_of_one_head_are_those_that_it_misses_most_confidently(trained):
    wrong, confidence = torch.tensor([True, False, True, True]), torch.tensor([0.5, 0.9, 0.8, 0.7])
    assert missed(wrong, confidence, most=2).tolist() == [2, 3]
    assert missed(wrong & (confidence > 0.7), confidence, most=9).tolist() == [2]
    folder = trained(**REPORTED, plan="joint")
    samples = read_samples(folder)
    assert (samples.predicted[0] != samples.labels).all()
    assert "What it misses" in page_of(folder).headings


def test_samples_of_a_run_are_test_images_with_their_answers(trained):
    samples = read_samples(trained(**{**REPORTED, "epochs": 3, "dataset.limit_test": None, "J": 3}))
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


def runs_in(tmp_path: Path) -> list:
    return [read_run(folder) for folder in sorted((tmp_path / "out").iterdir())]


def test_labels_name_as_few_keys_as_tell_groups_apart(train_py, tmp_path):
    for more in ({"k": 1}, {"k": 2}, {"k": 2, "seed": 1}):
        train_py(**REPORTED | more)
    one, two = grouped(runs_in(tmp_path))
    assert [one.label, two.label] == ["k = 1", "k = 2"]
    assert [run.label for group in (one, two) for run in group.runs] == ["k = 1", "k = 2, seed = 0", "k = 2, seed = 1"]
    twice = grouped([one.first, one.first])
    assert len({run.label for group in twice for run in group.runs}) == 2


def test_keys_that_labels_do_not_expect_tell_groups_apart_too(train_py, tmp_path):
    for rate in (0.01, 0.02):
        train_py(**REPORTED, **{"optimizer.weight_decay": rate})
    assert [group.label for group in grouped(runs_in(tmp_path))] == ["weight_decay = 0.01", "weight_decay = 0.02"]


def test_runs_of_networks_with_different_keys_are_compared(train_py, tmp_path):
    train_py(epochs=1, J=1, **{"model.downsample": "[]"})
    train_py(epochs=1, J=1, model="mlp", **dict.fromkeys(("model.downsample", "model.head_width")))
    runs = runs_in(tmp_path)
    assert [group.label for group in grouped(runs)] == ["mlp", "simcnn"]
    assert "mlp against simcnn: greedy, on digits, 1 seed each" in render(runs)


@pytest.fixture
def seeds(trained) -> list:
    """Two seeds of greedy training and two of end-to-end training."""
    folders = [trained(**REPORTED, seed=seed, plan=plan) for plan in ("greedy", "joint") for seed in (0, 1)]
    return [read_run(folder) for folder in folders]


def test_runs_that_differ_in_the_seed_alone_are_one_line_with_a_band(seeds):
    greedy, joint = grouped(seeds)
    assert [(group.label, len(group.runs)) for group in (greedy, joint)] == [("greedy", 2), ("end to end", 2)]
    charts = {chart.id: chart for chart in all_charts([*greedy.runs, *joint.runs])}
    values = [run.scored[0]["test"]["top1"] for run in greedy.runs]
    (row,) = [
        row
        for row in charts["accuracy"].rows
        if (row["group"], row["block"], row["predictor"]) == ("greedy", 1, "head")
    ]
    assert row["n"] == 2
    assert row["top1"] == pytest.approx(statistics.fmean(values))
    assert row["std"] == pytest.approx(statistics.stdev(values))
    assert row["high"] - row["low"] == pytest.approx(2 * statistics.stdev(values))
    for name in ("accuracy", "anytime", "loss-curves", "training-curves"):
        single = next(layer for layer in charts[name].spec["layer"] if layer.get("name") == SINGLE)
        assert {point["run"] for point in single["data"]["values"]} >= {"greedy, seed = 0", "greedy, seed = 1"}
    seconds = sum(row["seconds"] for row in charts["time"].rows)
    assert seconds == pytest.approx(sum(run.seconds for run in seeds) / 2)


def test_the_headline_is_the_mean_of_each_group_and_never_a_single_run(seeds):
    page = Page(render(seeds))
    assert page.headings[0] == "greedy against end to end: SimCNN, k = 2, on digits, 2 seeds each"
    words = " ".join(page.words.split())
    for group in grouped(seeds):
        values = [run.final["test_top1"] for run in group.runs]
        mean = f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert f"{group.label} {mean} % test accuracy, mean ± deviation of 2 seeds, 100 images" in words
    assert "best" not in page.words


def test_seeds_of_one_configuration_have_no_table_of_differences(seeds):
    one, several = render(seeds[:2]), render(seeds)
    assert 'id="differences"' in several
    assert 'id="differences"' not in one
    assert "only-differences" not in one.partition('id="config"')[0].rpartition("<table")[2]
    assert "test accuracy, mean" not in " ".join(Page(one).words.split())  # which the line above it says


def test_an_unfinished_run_does_not_count_in_the_mean_of_its_group(seeds):
    begun = replace(seeds[1], results=seeds[1].results | {"status": "running"})
    (group,) = grouped([seeds[0], begun])
    assert group.spread_of("test_top1")["values"] == [seeds[0].final["test_top1"]]
    assert group.status == "1 completed, 1 running"


def test_axes_of_accuracy_say_what_chance_does(seeds):
    (chart,) = [chart for chart in all_charts(grouped(seeds[:1])[0].runs) if chart.id == "accuracy"]
    y = chart.spec["layer"][-1]["encoding"]["y"]
    best = max(row["top1"] for row in chart.rows)
    assert y["title"] == f"test accuracy (%), n = 100, 95 % interval ±{binomial_margin(best, 100):.2g}"
    low, high = y["scale"]["domain"]
    assert high - low > 6 * binomial_margin(best, 100)
    assert (low, high) == (max(0, low), min(100, high))


def test_the_interval_of_an_accuracy_is_wilsons():
    interval = binomtest(90, 100).proportion_ci(0.95, method="wilson")
    assert binomial_margin(90, 100) == pytest.approx(50 * (interval.high - interval.low), abs=0.01)


def test_many_classes_are_shown_by_their_most_frequent_mistakes(seeds, monkeypatch):
    monkeypatch.setattr("layerwise.reporting.html.confusion.DRAWN_CLASSES", 9)
    matrix = seeds[0].results["classification"]["confusion_matrix"]
    wrong = sorted((n for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j and n), reverse=True)
    chart = confusion(seeds[0], 1)
    assert [row["images"] for row in chart.spec["data"]["values"]] == wrong[:20]
    assert f"{sum(wrong)} test images in all" in chart.note


def test_no_two_groups_have_one_colour(seeds):
    many = [replace(seeds[0], config=replace(seeds[0].config, batch_size=64 + i)) for i in range(40)]
    groups = grouped(many)
    colours = colours_beyond_the_palette(groups)
    assert sorted(colours) == list(range(9, 41))
    assert len({further_colour(number) for number in range(200)}) == 200
    text = render(many)
    assert 'data-colours="40"' in text
    assert all(f"--c{number}: {colour};" in text for number, colour in colours.items())
    assert "40 configurations: greedy SimCNN, k = 2, on digits, 1 seed each" in text


def test_the_weights_of_an_ensemble_are_shown_where_they_say_something(seeds):
    def shown(runs: list) -> bool:
        return "weights" in {chart.id for chart in all_charts(runs)}

    run = seeds[0]
    third = run.results | {"blocks": [*run.rows, run.rows[1] | {"block": 3}]}
    deeper = replace(run, results=third, anatomy=None)
    assert (shown([run]), shown([deeper]), shown([deeper, seeds[2]])) == (False, True, False)


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


def test_a_long_stage_is_thinned_and_its_table_has_the_last_epochs(trained):
    folder = trained(**{**REPORTED, "J": 1, "model.downsample": "[]"})
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    line.pop("check")
    lines = [json.dumps(line | {"epoch": epoch, "loss": 1 / epoch}) for epoch in range(1, 1001)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"stage": 1, "ep')
    (chart,) = [chart for chart in all_charts([read_run(folder)]) if chart.id == "loss-curves"]
    values = chart.spec["data"]["values"]
    assert len(values) == 200
    assert values[-1]["epoch"] == 1000
    assert [row["epoch"] for row in chart.rows] == [1000]


def test_many_runs_stay_below_the_size_limit(trained):
    run = read_run(trained(**REPORTED))
    assert len(render([run] * 40).encode()) < MOST_BYTES


def test_long_names_are_told_by_what_differs(seeds):
    def named(*names: str) -> list[str]:
        runs = [
            replace(run, name=name, config=replace(run.config, name=name, batch_size=64 + i))
            for i, (run, name) in enumerate(zip((seeds[0], seeds[2]), names, strict=True))
        ]
        return [group.label for group in grouped(runs)]

    long = "a_name_of_a_run_that_goes_on_and_on_{}_until_it_ends"
    assert named(long.format("slowly"), long.format("quickly")) == ["…slowly…", "…quickly…"]
    assert named("run_slowly", "run_quickly") == ["run_slowly", "run_quickly"]
    assert named(long.format("again"), f"{long.format('again')}_soon") == ["…ends", "…ends_soon"]


def test_names_beside_bars_are_broken_and_the_longest_bars_drawn(seeds):
    name = "a group, with a name that is far longer, k = 3, than a phone has place for"
    many = [
        replace(seeds[0], group=f"{name} {i:02}", results=seeds[0].results | {"blocks": [row]})
        for i in range(30)
        for row in [seeds[0].rows[0] | {"seconds": {"train": 1.0 + i}}]
    ]
    (chart,) = [chart for chart in all_charts(many) if chart.id == "time"]
    places = chart.spec["layer"][0]["encoding"]["y"]["sort"]
    assert [place.replace("\n", " ")[-2:] for place in places] == [f"{i:02}" for i in range(10, 30)]
    assert "k\u00a0=\u00a03" in places[0]  # which no line breaks
    assert max(len(line) for place in places for line in place.split("\n")) <= 26
    assert chart.note.endswith("Of 30 bars the 20 longest.")


def test_of_many_groups_the_heads_alone_are_drawn(seeds):
    def drawn(count: int) -> set[str]:
        runs = [replace(run, group=f"{run.group} {i}") for i in range(count) for run in (seeds[0], seeds[2])]
        (chart,) = [chart for chart in all_charts(runs) if chart.id == "accuracy"]
        return {row["predictor"] for row in chart.rows} | {layer["mark"]["type"] for layer in chart.spec["layer"]}

    assert drawn(2) >= {"head", "ensemble", "rule", "rect"}
    assert drawn(7) == {"head", "line"}


def test_a_legend_says_each_thing_once(seeds):
    (chart,) = [chart for chart in all_charts(grouped(seeds[:1])[0].runs) if chart.id == "accuracy"]
    encoding = chart.spec["layer"][-1]["encoding"]
    assert encoding["color"]["legend"]
    assert encoding["strokeDash"]["legend"] is None


def test_epochs_have_one_axis_in_all_plots_of_a_run(trained):
    options = {"plan": "autoencoder", "model": "mlp", "k": 1, "dataset.standardise": "false", **REPORTED}
    run = read_run(trained(**options, **dict.fromkeys(("model.head_width", "model.downsample"))))
    charts = [chart for chart in all_charts([run]) if chart.id.endswith("-curves")]
    assert len(charts) == 3
    encodings = [chart.spec["layer"][-1]["encoding"] for chart in charts]
    assert [encoding["x"]["scale"]["domain"] for encoding in encodings] == [[1, 4]] * 3
    assert [encoding["color"]["scale"]["domain"] for encoding in encodings] == [[1, 2, 3, 4]] * 3


def test_a_little_difference_in_r2_is_no_cliff():
    assert r2_margin(0.5, 400) == pytest.approx(1.96 * 2 * 0.5**0.5 * 0.5 / 20)
    assert r2_margin(-0.2, 10) == r2_margin(1.0, 10) == 0
