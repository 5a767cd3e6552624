"""`accumulate=N`: a batch that is computed in parts gives what the whole batch gives."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from helpers.commands import assert_refused
from helpers.networks import tiny_net
from helpers.run_folders import metrics_of, only_run, results_of
from helpers.training import FP32, train, trainer_of
from layerwise.core.interrupt import StopRequest
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute
from layerwise.models.readout import Readout
from layerwise.training.objectives import LocalLoss
from layerwise.training.optim import sgd
from layerwise.training.recipe import parts_of_batch
from layerwise.training.step import EagerStep

NO_NORMS = {"model.batch_norm": "false", "precision": "fp32"}


def losses(folder):
    return [line["loss"] for line in metrics_of(folder)]


@pytest.mark.parametrize("accumulate", [2, 4, 16])
def test_without_norms_the_weights_are_those_of_the_whole_batch_to_rounding(tiny_data, accumulate):
    nets, reports = [tiny_net(batch_norm=False), tiny_net(batch_norm=False)], []
    for net, parts in zip(nets, (1, accumulate), strict=True):
        reports.append(train(trainer_of(net, clip_norm=0.5, accumulate=parts, gradients=True), tiny_data))
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(nets[1].state_dict()[name], value, rtol=1e-4, atol=1e-6)
    for whole, parted in zip(*reports, strict=True):
        assert (parted.images, parted.sums["correct"]) == (whole.images, whole.sums["correct"])
        assert parted.scores[0] == pytest.approx(whole.scores[0], rel=1e-5)
        assert parted.gradients == pytest.approx(whole.gradients, rel=1e-4)


@pytest.mark.parametrize(
    ("images", "largest", "ranks", "parts"), [(16, 4, 1, 4), (6, 4, 1, 2), (3, 4, 1, 1), (9, 8, 2, 2), (3, 2, 2, 1)]
)
def test_a_batch_has_as_few_parts_as_are_no_larger_than_those_of_a_full_one(images, largest, ranks, parts):
    assert parts_of_batch(images, largest, ranks) == parts


def test_gradients_are_exchanged_with_the_last_part_only_and_scaled_once():
    entered = []

    @contextmanager
    def unsynchronised():
        entered.append(True)
        yield

    layers = [nn.Linear(5, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    x, targets = torch.randn(7, 5), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    for layer, parts in zip(layers, (1, 3), strict=True):
        parameters, scaler = list(layer.parameters()), torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizer = sgd(parameters, lr=0.1, momentum=0.9, weight_decay=0, nesterov=False)

        def forward(inputs, layer=layer):
            return [Readout(layer(inputs))]

        step = EagerStep(forward, LocalLoss(), optimizer, parameters, FP32, scaler, 0.1, unsynchronised=unsynchronised)
        step(x, targets, loss_scale=0.5, parts=parts)
    assert entered == [True] * 2
    torch.testing.assert_close(layers[1].weight, layers[0].weight)


def test_no_block_sees_more_than_a_part_at_a_time(tiny_data):
    net, seen = tiny_net(), []
    for block in net.blocks[:2]:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    trainer = trainer_of(net, start=1, stop=2, accumulate=4, epochs=1)
    source = Recompute(tiny_data, BatchPlan(16, seed=0, accumulate=4), FP32, list(net.blocks[:1]))
    orders = [torch.cat([labels for _, labels in source.train(1, 0)])]
    list(trainer.run(source, StopRequest()))
    assert max(seen) == 4
    whole = Recompute(tiny_data, BatchPlan(16, seed=0), FP32, list(net.blocks[:1]))
    orders.append(torch.cat([labels for _, labels in whole.train(1, 0)]))
    assert torch.equal(*orders)
    assert max(len(batch.inputs) for batch in source.evaluate("test")) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"cache": "none"},
        {"cache": "memory"},
        {"plan": "simultaneous", "optimizer.clip_norm": 1},
        {"plan": "joint", "objective.l2": 1e-3},
        {"precision": "bf16", "cache": "disk"},
    ],
    ids=lambda options: next(iter(options.values())),
)
def test_runs_without_norms_have_the_losses_of_whole_batches(trained, tmp_path, options):
    options = NO_NORMS | options
    whole, parted = (losses(trained(name=str(n), accumulate=n, **options)) for n in (1, 8))
    assert parted == pytest.approx(whole, rel=0.02 if options["precision"] == "bf16" else 1e-4)
    assert parted != whole


def test_batch_norms_see_a_part(trained):
    whole, parted = (losses(trained(name=str(n), accumulate=n)) for n in (1, 4))
    assert parted == pytest.approx(whole, rel=0.2)
    assert parted != pytest.approx(whole, rel=1e-3)


def test_one_part_names_no_folder_and_more_do(trained, tmp_path):
    assert trained() == trained(accumulate=1) == only_run(tmp_path)
    assert trained(accumulate=2) != trained()


def test_a_stopped_run_in_parts_goes_on_to_the_bit(assert_goes_on_to_the_bit):
    folder = assert_goes_on_to_the_bit(lambda stage, saves: (stage, saves) == (2, 3), accumulate=4)
    assert results_of(folder)["status"] == "completed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accumulate": 3}, ["accumulate=3", "batch_size=64", "3 equal parts", "63 or 66"]),
        ({"accumulate": 0}, ["accumulate=0", "1 or more"]),
        ({"accumulate": 65}, ["accumulate=65", "65"]),
        (
            {"accumulate": 2, "plan": "simultaneous", "distributed.parallel": "blocks"},
            ["distributed.parallel=blocks", "accumulate=1"],
        ),
        (
            {
                "accumulate": 64,
                "model": "mlp",
                "k": 1,
                "model.batch_norm": "true",
                **dict.fromkeys(["model.width", "model.head_width", "model.downsample"]),
            },
            ["accumulate=64", "parts of 1", "smaller accumulate"],
        ),
    ],
)
def test_parts_that_cannot_be_are_refused(train_py, options, words):
    assert_refused(train_py(**options), *words)
