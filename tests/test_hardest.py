"""`plan.hardest`: later blocks are trained on the samples on which the head before has the largest loss."""

from __future__ import annotations

import itertools
import signal

import pytest
import torch
from torch import nn

from helpers.processes import start_and_train
from helpers.run_folders import metrics_of, numbers, only_run, results_of
from layerwise.core.choices import PrecisionName
from layerwise.core.errors import LayerwiseError
from layerwise.core.precision import choose_precision
from layerwise.core.types import Batch
from layerwise.experiment import stage as stages
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.training.hardest import hardest_samples
from layerwise.training.plan import Stage, checked_stages, greedy

HALF = ("plan.hardest=0.5", "J=3", "epochs=2", "dataset.limit=100", "batch_size=20")


def test_the_samples_with_the_largest_losses_are_chosen_in_ascending_order():
    net = BlockNet([nn.Identity()], {1: nn.Identity()})
    z = torch.tensor([[9.0, 0.0], [0.0, 9.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])  # all of class 0
    batches = [Batch(z[:3], torch.zeros(3, dtype=torch.int64)), Batch(z[3:], torch.zeros(2, dtype=torch.int64))]
    precision = choose_precision(PrecisionName.fp32, torch.device("cpu"))
    chosen = hardest_samples(Segment(net, 1, 1, [1]), batches, precision, "cross_entropy", 3)
    assert chosen.tolist() == [1, 3, 4]


def test_stages_behind_the_first_have_a_part_of_the_samples():
    assert [stage.hardest for stage in greedy(3, 1, hardest=0.3)] == [1.0, 0.3, 0.3]
    assert [stage.samples(50) for stage in greedy(3, 1, hardest=0.3)] == [50, 15, 15]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage(0, 0, 1, (1,), 1, hardest=0.5), "no stage before has trained a classifier at depth 0"),
        (Stage(0, 0, 1, (1,), 1, hardest=0.0), "must be above 0 and at most 1"),
    ],
)
def test_a_plan_of_another_package_is_checked(stage, message):
    with pytest.raises(LayerwiseError, match=message):
        checked_stages([stage], 1, "own.plan")


def test_a_run_trains_on_them_and_says_so(train_py, tmp_path, monkeypatch):
    chosen: list[list[int]] = []
    choose = stages.hardest

    def recorded(*arguments):
        positions = choose(*arguments)
        chosen.append(positions.tolist())
        return positions

    monkeypatch.setattr(stages, "hardest", recorded)
    outcome = train_py(*HALF)
    assert outcome.code == 0, outcome.err
    assert [len(set(positions)) for positions in chosen] == [50, 50]
    assert chosen[0] != chosen[1]
    first, *later = results_of(only_run(tmp_path))["blocks"]
    assert "hardest" not in first
    assert [row["hardest"] for row in later] == [0.5, 0.5]
    assert not any("improved_loss" in row for row in later)
    assert "depth 2: 50 %, 3: 50 %" in " ".join(outcome.out.split())
    steps = [line["step"] for line in metrics_of(only_run(tmp_path))]
    assert [b - a for a, b in itertools.pairwise([0, *steps])] == [5, 5, 3, 3, 3, 3]  # batches of 20


@pytest.mark.parametrize("cache", ["cache=none", "cache=disk"])
def test_a_killed_run_goes_on_with_the_same_samples(train_py, tmp_path, rows_of_whole_run, cache):
    words = dict(word.split("=", 1) for word in (*HALF, cache, "epochs=4"))
    whole = rows_of_whole_run(**words)
    process, folder = start_and_train(tmp_path, 6, "killed", **words)  # in the second stage
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert train_py(name="killed", **words).code == 0
    assert numbers(results_of(folder)) == whole
