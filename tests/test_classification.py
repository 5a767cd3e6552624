"""Confusion matrix and ROC curves, against counts by hand and scikit-learn, and how results.json holds them."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, confusion_matrix, roc_auc_score

import layerwise
from helpers.run_folders import results_of
from layerwise.data.toy import read_digits
from layerwise.runs.metrics import write_results
from layerwise.training.choices import LOSSES
from layerwise.training.classification import (
    CURVE_POINTS,
    DETAILED_CLASSES,
    classification_report,
)
from layerwise.training.evaluate import accuracies


def report(scores: list[list[float]], targets: list[int]) -> dict:
    """The report, which must come without a warning."""
    z = torch.tensor(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return classification_report(z, torch.tensor(targets), [f"class {c}" for c in range(z.shape[1])])


def test_areas_and_curves_by_hand():
    # class 0 has the probabilities 0.9 and 0.4, the rest 0.6 and 0.1: three of four pairs are in order
    found = report([[math.log(p), math.log(1 - p)] for p in (0.9, 0.4, 0.6, 0.1)], [0, 0, 1, 1])
    assert found["auc"] == [0.75, 0.75]
    assert found["macro_auc"] == 0.75
    positions, (rates, _) = found["roc"]["false_positive_rate"], found["roc"]["true_positive_rate"]
    assert len(positions) == len(rates) == CURVE_POINTS
    assert (positions[0], positions[-1]) == (0, 1)
    below_half = [rate for position, rate in zip(positions, rates, strict=True) if position < 0.5]
    assert set(below_half) == {0.5}  # one of two found before the first false one
    assert set(rates[len(below_half) :]) == {1.0}


def test_scores_become_probabilities_as_their_loss_says():
    z = torch.tensor([[0.0, math.log(3)], [2.0, 2.0]])
    assert LOSSES["cross_entropy"].probabilities(z.double()).tolist() == pytest.approx(
        np.array([[0.25, 0.75], [0.5, 0.5]])
    )
    assert LOSSES["binary_cross_entropy"].probabilities(z.double())[0].tolist() == pytest.approx([0.5, 0.75])
    assert torch.equal(LOSSES["squared_error"].probabilities(z.double()), z.double())


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(8, 60), st.integers(0, 1000), st.booleans())
def test_it_agrees_with_scikit_learn(classes, n, seed, rounded):
    rng = np.random.default_rng(seed)
    scores, targets = rng.normal(size=(n, classes)).astype(np.float32), np.arange(n) % classes
    if rounded:  # ties within a class; the greatest of a sample is unique
        scores = scores.round()
        scores[np.arange(n), rng.integers(0, classes, n)] = 9
    found = report(scores.tolist(), targets.tolist())
    assert found["confusion_matrix"] == confusion_matrix(targets, scores.argmax(axis=1)).tolist()
    shares = torch.from_numpy(scores).double().softmax(dim=1).numpy()  # another softmax would break ties by rounding
    areas = [roc_auc_score(targets == c, shares[:, c]) for c in range(classes)]
    assert found["auc"] == pytest.approx(areas)
    assert found["macro_auc"] == pytest.approx(np.mean(areas))
    for rates in found["roc"]["true_positive_rate"]:
        assert rates == sorted(rates)
        assert 0 <= rates[0] <= rates[-1] == 1


def test_thinned_curves_keep_the_area():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 3000)
    scores = rng.normal(size=(3000, 3)) + np.eye(3)[targets]
    found = report(scores.tolist(), targets.tolist())
    for area, rates in zip(found["auc"], found["roc"]["true_positive_rate"], strict=True):
        assert auc(found["roc"]["false_positive_rate"], rates) == pytest.approx(area, abs=0.005)


def test_a_class_without_test_samples_has_no_area_and_no_warning():
    found = report([[0.9, 0.1, 0.3], [0.2, 0.6, 0.9], [0.1, 0.05, 0.0]], [0, 1, 1])
    assert found["auc"] == [1.0, 1.0, None]
    assert found["macro_auc"] == 1.0
    assert found["roc"]["true_positive_rate"][2] is None
    assert found["confusion_matrix"] == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]


def test_test_samples_of_one_class_alone_have_no_area_at_all():
    found = report([[0.9, 0.1], [0.2, 0.6]], [1, 1])
    assert found["auc"] == [None, None]
    assert found["macro_auc"] is None
    assert found["roc"]["true_positive_rate"] == [None, None]
    assert found["confusion_matrix"] == [[0, 0], [1, 1]]


def test_scores_that_are_not_finite_give_no_area_and_no_error():
    found = report([[0.9, 0.1], [math.nan, 0.6], [math.inf, 0.2]], [0, 1, 1])
    assert found["auc"] == [None, None]
    assert sum(map(sum, found["confusion_matrix"])) == 3


@pytest.mark.parametrize("classes", [DETAILED_CLASSES, DETAILED_CLASSES + 1])
def test_with_many_classes_only_the_areas_are_given(classes):
    targets = torch.arange(2 * classes) % classes
    found = classification_report(torch.eye(classes)[targets], targets, [str(c) for c in range(classes)])
    assert found["auc"] == [1.0] * classes
    assert ("confusion_matrix" in found) == ("roc" in found) == (classes == DETAILED_CLASSES)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_ties_of_coarse_scores_are_counted_as_the_accuracy_counts_them(classes):
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(0, 3, (500, classes), generator=generator).to(torch.bfloat16)
    targets = torch.randint(0, classes, (500,), generator=generator)
    matrix = torch.tensor(classification_report(z, targets, list(map(str, range(classes))))["confusion_matrix"])
    assert 100 * matrix.trace().item() / 500 == pytest.approx(accuracies(z.float(), targets)["top1"])


# results.json


def test_results_of_a_run_describe_its_classes(trained):
    text = (trained() / "results.json").read_text()
    results = json.loads(text)
    found = results["classification"]
    matrix = np.array(found["confusion_matrix"])
    assert found["classes"] == list("0123456789")
    assert matrix.sum(axis=1).tolist() == [10] * 10  # dataset.limit_test=100, class-balanced
    assert 100 * matrix.trace() / 100 == pytest.approx(results["final"]["test_top1"])
    assert len(found["auc"]) == len(found["roc"]["true_positive_rate"]) == 10
    assert 0.5 < found["macro_auc"] <= 1
    for row in found["confusion_matrix"]:
        assert f"\n      {json.dumps(row)}" in text  # on one line
    assert len(text.splitlines()) < 350


def test_areas_of_a_run_are_those_of_scikit_learn_on_the_softmax_of_its_network(trained):
    folder = trained(precision="fp32", **{"dataset.limit_test": None})
    found = results_of(folder)["classification"]
    _, (pixels, labels) = read_digits()
    network = layerwise.load(folder)
    with torch.no_grad():
        z = network(network.normalise(pixels.permute(0, 3, 1, 2)))
    shares = z.double().softmax(dim=1).numpy()
    assert found["macro_auc"] == pytest.approx(roc_auc_score(labels, shares, multi_class="ovr"), abs=1e-3)
    raw = np.mean([roc_auc_score(labels == c, z[:, c]) for c in range(10)])
    assert abs(found["macro_auc"] - raw) > 0.005  # else the test would not notice raw scores


def test_the_description_is_of_the_depth_that_was_chosen(trained):
    results = results_of(trained(epochs=1, **{"plan.patience": 1, "dataset.validation": 0.1}))
    assert np.trace(results["classification"]["confusion_matrix"]) == pytest.approx(results["final"]["test_top1"])


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=15,
    )
)
def test_whatever_is_written_is_read_back(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "tree.json"
    write_results(path, {"tree": tree})
    assert json.loads(path.read_text()) == {"tree": tree}


def test_what_is_not_finite_is_null_wherever_it_is(tmp_path):
    tree = {"a": [1.0, math.nan], "b": (math.inf, 2), "c": {"d": [[-math.inf]]}}
    write_results(tmp_path / "results.json", tree)
    expected = {"a": [1.0, None], "b": [None, 2], "c": {"d": [[None]]}}
    assert json.loads((tmp_path / "results.json").read_text()) == expected
