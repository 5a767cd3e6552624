"""`checkpoint.keep=best`: a stage ends with the weights of its best epoch by the validation samples."""

from __future__ import annotations

import pytest
import torch

import layerwise
from helpers.commands import assert_refused
from helpers.networks import tiny_net
from helpers.run_folders import metrics_of, results_of
from layerwise.core.measures import quality
from layerwise.experiment.best_epoch import better
from layerwise.models.blocknet import Segment
from layerwise.training.reports import EpochReport

# a learning rate at which epochs get worse, too
BEST = {
    "checkpoint.keep": "best",
    "dataset.validation": 0.2,
    "epochs": 5,
    "optimizer.lr": 0.5,
    "optimizer.schedule": "constant",
}
PERCEPTRON = {"model": "mlp", "k": 1, **dict.fromkeys(["model.width", "model.head_width", "model.downsample"])}


def epochs_of(folder, stage):
    """What each epoch of a stage has on the validation samples."""
    return [line["validation"] for line in metrics_of(folder) if line["stage"] == stage]


def kept(scores):
    return max(range(len(scores)), key=lambda i: (scores[i], -i)) + 1


def test_of_equal_epochs_the_earlier_is_kept_and_an_error_is_the_better_the_smaller():
    segment = Segment(tiny_net(), 0, 1, (1,))
    reports = [EpochReport(i, 1, {}, 0.1, 1.0, 1, complete=True) for i in range(4)]
    best, weights = None, []
    for report, top1 in zip(reports, (50.0, 60.0, 60.0, 55.0), strict=True):
        best = better(best, report, {"loss": 1.0, "top1": top1}, segment)
        weights.append(next(segment.parameters()).detach().clone())
        with torch.no_grad():
            next(segment.parameters()).add_(1.0)
    assert (best.quality, best.report["epoch"]) == (60.0, 1)
    assert best.put_back(segment) == reports[1]
    assert torch.equal(next(segment.parameters()), weights[1])
    best = None
    for report, loss in zip(reports, (3.0, 2.0, 2.0, 4.0), strict=True):
        best = better(best, report, {"loss": loss}, segment)
    assert best.report["epoch"] == 1


@pytest.mark.parametrize(
    "options", [{}, {"plan": "simultaneous"}, {"optimizer.average": 0.5}, {"plan.finetune.epochs": 3}], ids=str
)
def test_the_results_are_those_of_the_best_epoch_of_each_stage(trained, options):
    folder = trained(**BEST, **options)
    results = results_of(folder)
    some_are_not_last = False
    for entry in results["stages"]:
        scores = epochs_of(folder, entry["stage"])
        assert len(scores) == entry["epochs"]
        assert entry["kept_epoch"] == kept([one["top1"] for one in scores])
        assert entry["validation"] == scores[entry["kept_epoch"] - 1]
        line = [line for line in metrics_of(folder) if line["stage"] == entry["stage"]][entry["kept_epoch"] - 1]
        assert entry["train"]["loss"] == pytest.approx(line["loss"])
        some_are_not_last |= entry["kept_epoch"] < entry["epochs"]
    assert some_are_not_last
    assert results["blocks"][-1]["kept_epoch"] == results["stages"][-1]["kept_epoch"]


def test_later_stages_begin_from_the_kept_weights(trained):
    """The first stage of both runs is the same; only the kept weights of its best epoch differ."""
    last, best = (trained(**BEST | {"checkpoint.keep": keep}) for keep in ("last", "best"))
    stage = results_of(best)["stages"][0]
    assert stage["kept_epoch"] < stage["epochs"]
    assert "kept_epoch" not in results_of(last)["stages"][0]
    assert "validation" not in metrics_of(last)[0]
    first = [[line["loss"] for line in metrics_of(folder) if line["stage"] == 1] for folder in (last, best)]
    second = [[line["loss"] for line in metrics_of(folder) if line["stage"] == 2] for folder in (last, best)]
    assert first[0] == first[1]
    assert second[0] != second[1]
    kept_block, last_block = (layerwise.load(folder).blocks[0].state_dict() for folder in (best, last))
    assert any(not torch.equal(value, last_block[name]) for name, value in kept_block.items())


def test_an_autoencoder_keeps_the_epoch_of_the_smallest_error(trained):
    folder = trained(**BEST, **PERCEPTRON, plan="autoencoder")
    for entry in results_of(folder)["stages"]:
        scores = epochs_of(folder, entry["stage"])
        values = [-one["loss"] if entry["target"] == "inputs" else quality(one) for one in scores]
        assert entry["kept_epoch"] == kept(values)


def test_a_stopped_stage_goes_on_to_the_bit_with_its_best_epoch(assert_goes_on_to_the_bit):
    assert_goes_on_to_the_bit(lambda stage, saves: (stage, saves) == (1, 4), **BEST)


def test_the_table_of_results_names_the_epochs(train_py):
    outcome = train_py(**BEST)
    assert "kept epoch of each depth, by validation: 1: " in outcome.out


def test_without_validation_samples_it_is_refused(train_py):
    assert_refused(train_py(**{"checkpoint.keep": "best"}), "checkpoint.keep=best", "dataset.validation=0.1")
    assert_refused(train_py(**{"checkpoint.keep": "first"}), "checkpoint.keep", "best")
