"""Real-valued targets: losses, scores in the unit of the table, runs under every plan, predictions as CSV, refusals."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import mean_absolute_error, r2_score

import layerwise
from helpers.commands import Outcome, assert_refused, run_script
from helpers.configs import configured
from helpers.data import CPU
from helpers.run_folders import metrics_of, only_run, results_of
from layerwise.analysis.exporting import Servable
from layerwise.commands import predict
from layerwise.config.build import build_data, build_spec
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key
from layerwise.data.split import test_part as held_out_part
from layerwise.data.table import Table
from layerwise.data.table_file import TableFiles
from layerwise.models.readout import Readout
from layerwise.training.objectives import ValueLoss
from layerwise.training.scoring import ValueScoring

ROWS = 240
LOSSES = {"squared_error": F.mse_loss, "absolute_error": F.l1_loss}


@pytest.fixture
def houses(tmp_path: Path) -> Path:
    """Prices that depend on a size (with missing values), an age, and a town."""
    rng = np.random.default_rng(0)
    size, age, town = rng.uniform(20, 200, ROWS), rng.integers(0, 90, ROWS), rng.integers(0, 3, ROWS)
    price = 1e5 + 2000 * size - 500 * age + 40_000 * town + 3000 * rng.normal(size=ROWS)
    rows = [f"{'' if i % 20 == 0 else f'{size[i]:.2f}'},{age[i]},{'abc'[town[i]]},{price[i]:.2f}" for i in range(ROWS)]
    path = tmp_path / "houses.csv"
    path.write_text("\n".join(["size,age,town,price", *rows]) + "\n")
    return path


@pytest.fixture
def options(houses: Path) -> dict[str, Any]:
    """Of a small run on them."""
    left_out = dict.fromkeys(("dataset.limit", "dataset.limit_test", "model.downsample", "model.head_width"))
    table = {"dataset": "table", "dataset.path": houses, "dataset.task": "regression"}
    trained = {"model": "mlp", "model.width": 16, "k": 1, "batch_size": 16, "optimizer": "adam", "optimizer.lr": 0.02}
    return {**table, **trained, "epochs": 10, "precision": "fp32", **left_out}


def targets_of(path: Path) -> tuple[list[float], list[int]]:
    """All prices, and the positions of those that are tested on."""
    prices = [float(row["price"]) for row in csv.DictReader(path.open())]
    return prices, held_out_part(torch.zeros(ROWS).long(), 0.2, key("table", "test"), "")[1].tolist()


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_are_those_of_torch_summed_over_the_heads(name):
    z, targets = torch.randn(2, 7, 1), torch.randn(7)
    terms = ValueLoss(name, deviation=3.0)([Readout(z[0], None), Readout(z[1], None)], targets)
    single = [LOSSES[name](head.squeeze(1), targets) for head in z]
    torch.testing.assert_close(terms["loss"], sum(single))
    torch.testing.assert_close(terms["means"]["loss"], single)
    torch.testing.assert_close(terms["means"]["mae"][1], 3 * F.l1_loss(z[1].squeeze(1), targets))
    torch.testing.assert_close(terms["means"]["r2"][0], 1 - F.mse_loss(z[0].squeeze(1), targets))


@pytest.mark.parametrize("targets", [torch.randn(9), torch.ones(9)], ids=["random", "constant"])
def test_measures_are_those_of_scikit_learn(targets):
    z = torch.randn(9, 1)
    for prediction in (z, targets[:, None]):
        found = ValueScoring("squared_error", deviation=5.0).measures(prediction, targets)
        assert found["r2"] == pytest.approx(r2_score(targets, prediction))
        assert found["mae"] == pytest.approx(5 * mean_absolute_error(targets, prediction))


def test_a_run_is_scored_and_predicts_in_the_unit_of_the_table(train_py, options, houses, tmp_path):
    outcome = train_py(**options, **{"report": "true", "dataset.validation": 0.2, "logger": "tensorboard"})
    assert outcome.code == 0, outcome.err
    folder = only_run(tmp_path)
    results = results_of(folder)
    prices, tested = targets_of(houses)
    with redirect_stdout(io.StringIO()) as out:
        predict.main([str(folder), str(houses)])
    rows = list(csv.DictReader(out.getvalue().splitlines()))
    assert [",".join(list(row.values())[:4]) for row in rows] == houses.read_text().splitlines()[1:]
    wanted = [prices[i] for i in tested]
    for what, scored in (("prediction", "test"), ("ensemble", "ensemble")):
        predicted = [float(rows[i][what]) for i in tested]
        assert results["final"][f"{scored}_r2"] == pytest.approx(r2_score(wanted, predicted), abs=1e-5)
        assert results["final"][f"{scored}_mae"] == pytest.approx(mean_absolute_error(wanted, predicted), rel=1e-4)
    assert results["final"]["test_r2"] > 0.8
    assert "confidence" not in rows[0]
    assert "classification" not in results

    assert {"loss", "r2", "mae"} <= set(metrics_of(folder)[-1])
    assert set(results["blocks"][0]["train"]) == {"loss", "r2", "mae"}
    shown = f"{results['final']['test_r2']:.4f}"
    assert "test R²" in outcome.out
    assert shown in outcome.out
    assert "train R² 0." in outcome.err
    report = (folder / "report.html").read_text()
    assert re.search(rf"<dt>test R²</dt>\s*<dd[^>]*>{re.escape(shown)}</dd>\s*<dd class=\"n\">{len(tested)} ", report)
    assert "accuracy" not in report.split("<script")[0]

    collected = run_script("collect", str(folder)).out
    heading, _, row = [[cell.strip() for cell in line.split("|")[1:-1]] for line in collected.splitlines()]
    figures = dict(zip(heading, row, strict=True))
    assert figures["test R²"] == shown
    assert figures["test MAE"] == f"{results['final']['test_mae']:.4g}"
    assert not [name for name in heading if name.endswith("%")]

    assert_refused(run_script("anytime", str(folder)), "predicts a quantity")
    net = layerwise.load(folder)
    features = Table(TableFiles(houses, regression=True)).tensors()[1][0]
    exported = Servable(net)
    assert exported.metadata["target"] == "price"
    torch.testing.assert_close(
        exported(features.float()).squeeze(1).tolist(),
        [float(rows[i]["prediction"]) for i in tested],
        rtol=1e-5,
        atol=0,
    )


@pytest.mark.parametrize("plan", ["simultaneous", "joint", "autoencoder"])
def test_other_plans_beat_the_mean_of_the_targets(train_py, options, tmp_path, plan):
    outcome = train_py(**options, plan=plan, **{"objective.loss": "absolute_error"})
    assert outcome.code == 0, outcome.err
    final = results_of(only_run(tmp_path))["final"]
    assert final["test_r2"] > 0.4


def test_a_stopped_run_goes_on_to_the_bit(assert_goes_on_to_the_bit, options):
    assert_goes_on_to_the_bit(lambda stage, saves: stage == 2 and saves > 5, **options)


def test_patience_and_the_search_choose_the_depth_by_validation_r2(train_py, options, tmp_path):
    more = {"J": 3, "plan.patience": 1, "plan.search_fraction": 0.7, "dataset.validation": 0.2}
    outcome = train_py(**{**options, **more})
    assert outcome.code == 0, outcome.err
    results = results_of(only_run(tmp_path))
    searched = results["search"]["validation"]
    assert results["search"]["block"] == 1 + searched.index(max(searched))
    assert max(searched) <= 1


def test_folds_are_averaged_by_r2(options, tmp_path):
    words = [f"{name}={value}" for name, value in options.items() if value is not None]
    record = tmp_path / "folds.json"
    places = (f"output_dir={tmp_path / 'out'}", "progress=off", "report=false", "J=1", "--json", str(record))
    outcome = run_script("cross_validate", "--folds", "2", *words, *places)
    assert outcome.code == 0, outcome.err
    finals = [results_of(folder)["final"]["test_r2"] for folder in (tmp_path / "out").iterdir()]
    assert sorted(json.loads(record.read_text())["result"]["test"]["values"]) == pytest.approx(sorted(finals))
    assert "test R² 0." in outcome.out.splitlines()[-1]


def test_targets_are_scaled_by_the_labelled_training_samples(options, houses):
    few = {"J": 1, "dataset.labelled": 0.5, "dataset.limit": 100, "dataset.validation": 0.25}
    config = configured(*(f"{name}={value}" for name, value in {**options, **few}.items() if value is not None))
    data = build_data(config, build_spec(config), CPU)
    known = data.labels["train"][:50]
    assert data.having("labels") == 50
    torch.testing.assert_close(known.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(known.std(correction=0), torch.tensor(1.0))
    mean, deviation = data.spec.target_scale
    prices = np.array(targets_of(houses)[0])
    for split in data.splits.values():
        given = split.labels.double().numpy() * deviation + mean
        assert np.abs(given[:, None] - prices).min(axis=1).max() < 0.1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"objective.loss": "cross_entropy"}, ("objective.loss=cross_entropy", "squared_error or absolute_error")),
        ({"objective.label_smoothing": 0.1}, ("objective.label_smoothing=0.1", "dataset.task=classification")),
        ({"dataset.class_weights": "balanced"}, ("dataset.class_weights=balanced", "dataset.task=classification")),
        ({"evaluation.mirror": "true"}, ("evaluation.mirror=true", "vector")),
    ],
)
def test_options_of_classes_are_refused(train_py, options, tmp_path, more, words):
    assert_refused(train_py(**{**options, **more}), *words)
    assert not (tmp_path / "out").exists()


def test_what_the_ensemble_averages_cannot_be_chosen(train_py, options):
    outcome: Outcome = train_py(**options, J=1, summary="json", **{"ensemble.on": "probabilities"})
    assert "ensemble.on=probabilities has no effect: it needs dataset.task=classification" in outcome.err


@pytest.mark.parametrize(
    ("labels", "regression", "words"),
    [
        (["1.5", "2.5", "1.5", "4"], False, ("no class but a quantity", "dataset.task=regression")),
        (
            [str(i) for i in range(30)],
            False,
            ("30 of the 30 rows have a label of their own", "dataset.task=regression"),
        ),
        (["1.5", "x", "2", "3"], True, ("row 2", "'x' is no finite number")),
        (["1.5", "inf", "2", "3"], True, ("row 2", "'inf' is no finite number")),
        (["1.5", "", "2", "3"], True, ("row 2", "the label is missing")),
        (["2", "2", "2", "2"], True, ("all rows have the label '2'",)),
    ],
)
def test_columns_that_are_no_such_labels(tmp_path, labels, regression, words):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i % 3},{label}\n" for i, label in enumerate(labels)))
    with pytest.raises(LayerwiseError) as refusal:
        Table(TableFiles(path, test=0.5, regression=regression)).spec()
    for word in (str(path), *words):
        assert word in str(refusal.value)


def test_a_second_table_may_have_other_targets(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(20.0)[:, None] % 7, y=np.arange(20.0) / 8)
    np.savez(tmp_path / "b.npz", x=np.arange(3.0)[:, None], y=np.float32([100.25, -1, 3]))
    files = TableFiles(tmp_path / "a.npz", test_path=tmp_path / "b.npz", regression=True)
    assert Table(files).tensors()[1][1].tolist() == [100.25, -1, 3]
    assert Table(files).spec().in_words().startswith("20 + 3 samples of 1, target 'y'")
