"""The operations that a run states are those that PyTorch's counter finds in it."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from helpers.networks import plain_net
from helpers.run_folders import only_run, results_of
from layerwise.experiment import scores
from layerwise.features import sources
from layerwise.models import costs
from layerwise.models.costs import BlockCost, block_costs
from layerwise.models.heads import PredSimHead
from layerwise.training import pruning
from layerwise.training.operations import Workload
from layerwise.training.plan import FineTuning, compressed, greedy
from layerwise.training.step import EagerStep


class Phases:
    """Operations of each phase of a run; what a phase calls is counted where it is called from."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found = dict.fromkeys(("train", "prefix", "evaluate", "estimate", "other"), 0)
        self.phase, self.counted, self.counter = "other", 0, FlopCounterMode(display=False)
        for place, name, phase in (
            (EagerStep, "__call__", "train"),
            (costs, "_run_on_meta", "estimate"),
            (sources, "run_frozen", "prefix"),
            (scores, "predict", "evaluate"),
            (scores, "mean_losses", "evaluate"),
        ):
            monkeypatch.setattr(place, name, self.in_phase(phase, getattr(place, name)))

    def in_phase(self, phase, function):
        def call(*arguments):
            if self.phase == "evaluate":  # its frozen blocks are part of it
                return function(*arguments)
            outer = self.enter(phase)
            returned = function(*arguments)
            self.enter(outer)
            return returned

        return call

    def enter(self, phase: str) -> str:
        total = self.counter.get_total_flops()
        self.found[self.phase] += total - self.counted
        outer, self.phase, self.counted = self.phase, phase, total
        return outer


FEW = {"dataset.limit": 80, "dataset.limit_test": 20, "batch_size": 40}
"""Counting makes each operation slow."""

SCORES_TRAIN = "evaluation.train=true"
GREEDY = ("J=3", "evaluation.every=1", "dataset.augment=true")


@pytest.mark.parametrize(
    ("words", "epochs", "first_of_stage"),
    [
        pytest.param((*GREEDY, "cache=none"), 2, (1, 2, 3), id="greedy, recomputed prefix"),
        pytest.param((*GREEDY, "cache=memory", "cache.views=epochs"), 2, (1, 2, 3), id="greedy, exact cache"),
        pytest.param((*GREEDY, "cache=disk", "cache.views=2", SCORES_TRAIN), 2, (1, 2, 3), id="greedy on disk"),
        pytest.param(("J=3", "plan=joint", "plan.epochs=3"), 3, (1,), id="joint"),
        pytest.param(("J=3", "plan=simultaneous", "plan.epochs=2"), 2, (1, 2, 3), id="simultaneous"),
    ],
)
def test_a_run_states_the_operations_that_it_makes(train_py, tmp_path, monkeypatch, words, epochs, first_of_stage):
    phases = Phases(monkeypatch)
    with phases.counter:
        outcome = train_py(*words, **FEW)
    assert outcome.code == 0, outcome.err
    phases.enter("other")
    results = results_of(only_run(tmp_path))
    stated = {name: round(1e15 * value) for name, value in results["pflop"].items()}
    assert stated["total_train"] == stated["train"] + stated["prefix"]
    assert stated["prefix"] == phases.found["prefix"]
    assert stated["evaluate"] == phases.found["evaluate"]
    assert phases.found["other"] == 0

    summary = json.loads(train_py(*words, "summary=json", **FEW).out)
    assert summary["pflop"] == results["pflop"]
    # of the three passes that the convention counts, one is the gradient of a layer's input: the first layer of a stage
    # does not need it
    blocks = [summary["blocks"][j - 1]["macs"]["block"] for j in first_of_stage]  # a convolution each
    assert stated["train"] - 2 * epochs * FEW["dataset.limit"] * sum(blocks) == phases.found["train"]


PRUNED = ("J=2", "plan.prune_to=4", "plan.prune_epochs=1")
PERCEPTRON = dict.fromkeys(("model.width", "model.head_width", "model.downsample", "k"))
AUTOENCODER = (
    *("model=mlp", "k=1", "model.widths=[6,4]", "J=2", "plan=autoencoder", "plan.finetune.epochs=1"),
    *("cache=memory", "dataset.labelled=0.5", "dataset.validation=0.2"),
)


@pytest.mark.parametrize(
    ("words", "left_out", "most"),
    [
        pytest.param((*PRUNED, "cache=none"), {}, 1.5, id="pruned, recomputed"),
        pytest.param((*PRUNED, "plan.last_head_width=3", "cache=none"), {}, 1.5, id="pruned, the last head anew"),
        pytest.param((*PRUNED, "cache=memory", "cache.views=2"), {}, 1.5, id="pruned, cached"),
        pytest.param(AUTOENCODER, PERCEPTRON, 1.3, id="autoencoder"),
    ],
)
def test_pruned_blocks_decoders_and_classifiers_count(train_py, tmp_path, monkeypatch, words, left_out, most):
    def importance(block, head, batches, precision):  # the counter cannot count torch.autograd.grad
        assert len(list(batches)) == 2
        return torch.rand(8)

    monkeypatch.setattr(pruning, "taylor_importance", importance)
    phases = Phases(monkeypatch)
    with phases.counter:
        outcome = train_py(*words, **left_out, **FEW)
    assert outcome.code == 0, outcome.err
    phases.enter("other")
    pflop = results_of(only_run(tmp_path))["pflop"]
    assert round(1e15 * pflop["prefix"]) == phases.found["prefix"]
    assert round(1e15 * pflop["evaluate"]) == phases.found["evaluate"]
    assert phases.found["train"] < 1e15 * pflop["train"] < most * phases.found["train"]


def work(**changes) -> Workload:
    """Two blocks of 10 and 20 multiply-accumulates with heads of 1 and 2; 100 training and 10 held-out samples."""
    blocks = [BlockCost(1, (1, 1, 1), 0, 0, 10, 1, 0), BlockCost(2, (1, 1, 1), 0, 0, 20, 2, 0)]
    options = {"costs": blocks, "unpruned": blocks, "samples": {"labels": 100, "inputs": 100}, "stored": 100}
    options |= {"held_out": 10, "views": 0, "augmented": True, "scores_train": False, "mirror": False, "every": 0}
    return Workload(**options | changes)


def test_fine_tuning_counts_the_head_that_took_the_place_of_another():
    wide = [BlockCost(1, (1, 1, 1), 0, 0, 10, 1, 0), BlockCost(2, (1, 1, 1), 0, 0, 20, 9, 0)]
    stages = compressed(2, 1, prune_to=[1, 1], prune_epochs=1, last_head_width=3)
    counts = work(tuned=wide)
    grown = counts.operations(stages).train
    tuned = counts.operations([*stages, *FineTuning(epochs=1).stages(2, len(stages))]).train
    assert tuned - grown == 2 * 3 * 100 * (10 + 20 + 2)
    assert counts.operations(stages[:4]).train - counts.operations(stages[:3]).train == 2 * 3 * 100 * 9


def test_a_cache_runs_the_prefix_once_a_view():
    counts = work(views=3).operations(greedy(2, epochs=5))
    assert counts.prefix == 2 * (3 * 100 + 10) * 10
    assert counts.evaluate == 2 * 10 * (10 + 1 + 20 + 2)
    # mirror images, and training images that are not augmented, are in no cache
    mirrored = work(views=3, mirror=True, scores_train=True).operations(greedy(2, epochs=5))
    assert mirrored.evaluate == 2 * (2 * 110 * (10 + 1 + 20 + 2) + (110 + 100) * 10)


def test_the_epoch_that_is_kept_is_chosen_by_scoring_the_validation_samples_after_each():
    plain, chosen = (work(every=2, chosen_by=n).operations(greedy(1, epochs=5)) for n in (0, 4))
    assert plain.evaluate == 2 * 3 * 10 * (10 + 1)
    assert chosen.evaluate - plain.evaluate == 2 * 3 * 4 * (10 + 1)  # after two of five epochs all are scored anyway


def test_training_runs_a_layer_more_of_some_heads():
    (first, _, _) = block_costs(plain_net(head=PredSimHead()), (3, 8, 8), torch.float32)
    assert first.reader_macs("labels", training=True) - first.reader_macs("labels") == 9 * 8 * 8 * 8**2
