"""Options of fast recipes, all at once: a run that is stopped in mid-stage ends like one that is not."""

from __future__ import annotations

import signal

import pytest

from helpers.run_folders import numbers, results_of
from layerwise.training.averaging import WeightAverage

RECIPE = {
    "dataset.cutout": 3,
    "model.widths": "[12,8]",
    "model.width": None,
    "model.activation": "gelu",
    "model.initialisation": "dirac",
    "model.whiten_input": "true",
    "optimizer.nesterov": "true",
    "optimizer.schedule": "onecycle",
    "optimizer.warmup": 0.1,
    "optimizer.final": 0.01,
    "optimizer.norm_decay": "false",
    "optimizer.average": 0.9,
    "evaluation.every": 1,
}


@pytest.mark.usefixtures("save_each_epoch")
def test_a_run_that_is_stopped_in_mid_epoch_ends_like_one_that_is_not(
    train_py, tmp_path, monkeypatch, rows_of_whole_run
):
    whole = rows_of_whole_run(**RECIPE)
    update, done = WeightAverage.update, []

    def counted(average: WeightAverage) -> None:
        update(average)
        done.append(1)
        if len(done) == 9:  # of 4 in each epoch and 8 in each stage
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(WeightAverage, "update", counted)
        assert train_py(name="stopped", **RECIPE).code == 128 + signal.SIGTERM
    assert train_py(name="stopped", **RECIPE).code == 0
    assert numbers(results_of(tmp_path / "out" / "stopped")) == whole
