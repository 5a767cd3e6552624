"""The training loop, on tiny networks."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from helpers.networks import tiny_net
from helpers.run_folders import metrics_of
from helpers.training import FP32, PLAN, STEPS, train, trainer_of
from layerwise.core.errors import NonFiniteLoss
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import freeze
from layerwise.training.optim import Constant, Cosine, OneCycle, Schedule, StepDecay


def test_without_restart_the_momentum_survives_a_decay(tiny_data):
    nets = [tiny_net(), tiny_net()]
    for net, restart in zip(nets, (True, False), strict=True):
        train(trainer_of(net, epochs=4, restart_momentum=restart), tiny_data)
    assert not torch.equal(nets[0].blocks[0][0].weight, nets[1].blocks[0][0].weight)


def test_each_trained_parameter_changes_and_no_frozen_bit_does(tiny_data):
    net = tiny_net()
    freeze(net.blocks[:1])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    train(trainer_of(net, start=1, stop=2), tiny_data, prefix=list(net.blocks[:1]))
    trained = ("blocks.1.", "heads.2.")
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith(trained), name


def test_the_first_step_is_told_from_the_others(tiny_data):
    trainer, told = trainer_of(tiny_net(), epochs=2), []
    source = Recompute(tiny_data, PLAN, trainer.precision)
    for _ in trainer.run(source, StopRequest(), settled=lambda: told.append(trainer.steps_done)):
        pass
    assert told == [1]


def test_reports_are_exact_counts(tiny_data):
    net = tiny_net()
    trainer = trainer_of(net, lr=1e-30, epochs=1)
    (report,) = train(trainer, tiny_data)
    losses, correct = [], 0
    trainer.segment.train()
    for x, y in Recompute(tiny_data, PLAN, trainer.precision).train(0, 0):
        z = trainer.segment(x)[0].scores
        losses.append(F.cross_entropy(z, y, reduction="sum").detach())
        correct += int((z.argmax(1) == y).sum())
    assert report.images == 70
    assert report.scores[0]["loss"] == pytest.approx(float(sum(losses)) / 70, rel=1e-5)
    assert report.scores[0]["top1"] == pytest.approx(100 * correct / 70)


def test_clipping_bounds_the_gradient(tiny_data):
    trainer = trainer_of(tiny_net(), clip_norm=1e-3, epochs=1)
    train(trainer, tiny_data)
    norm = torch.stack([p.grad.norm() for p in trainer.segment.parameters()]).norm()
    assert norm <= 1.01e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precisions_learn_about_the_same(tiny_data, dtype):
    full = train(trainer_of(tiny_net(), epochs=3), tiny_data)
    half = train(trainer_of(tiny_net(), epochs=3, precision=Precision(dtype, "cpu")), tiny_data)
    assert half[-1].scores[0]["loss"] == pytest.approx(full[-1].scores[0]["loss"], rel=0.05)
    assert half[-1].scores != full[-1].scores  # it did use the format


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("stop_after", [1, STEPS, STEPS + 2])
def test_a_saved_stage_goes_on_to_the_bit_from_any_step(tiny_data, stop_after, average):
    whole, part, resumed = (trainer_of(tiny_net(seed=seed), average=average) for seed in (0, 0, 5))
    reports = train(whole, tiny_data)
    stop, original, done = StopRequest(), part._train_step, []

    def counted(*batch):
        original(*batch)
        done.append(1)
        if len(done) == stop_after:
            stop.signal = 15

    part._train_step = counted
    for _ in part.run(Recompute(tiny_data, PLAN, part.precision), stop):
        if stop.signal:
            break
    assert part.steps_done == stop_after
    resumed.load_state_dict(part.state_dict())
    rest = train(resumed, tiny_data)
    assert rest[-1].scores == reports[-1].scores
    for trainer in (whole, resumed):
        trainer.end()
    for a, b in zip(whole.segment.state_dict().values(), resumed.segment.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_nan_names_stage_epoch_and_step(tiny_data):
    trainer = trainer_of(tiny_net())
    original = trainer._train_step

    def poisoned(x, y):
        original(x * float("nan") if trainer.steps_done == 7 else x, y)

    trainer._train_step = poisoned
    with pytest.raises(NonFiniteLoss, match="stage 1, epoch 2, step 3"):
        train(trainer, tiny_data)


SCHEDULES: list[tuple[Schedule, dict[float, float]]] = [
    (StepDecay(15 / 50, 0.2), {0: 1, 14.9 / 50: 1, 15 / 50: 0.2, 30 / 50: 0.04, 45 / 50: 0.008, 49.9 / 50: 0.008}),
    (StepDecay(20 / 45, 0.1), {0: 1, 20 / 45: 0.1, 40 / 45: 0.01}),
    (StepDecay(20 / 45, 0.1, (0.25, 0.5)), {0: 1, 0.249: 1, 0.25: 0.1, 0.499: 0.1, 0.5: 0.01, 0.99: 0.01}),
    (Cosine(), {0: 1, 0.5: 0.5, 1: 0}),
    (OneCycle(), {0: 0.04, 0.25: 1, 0.625: 0.5, 1: 0}),
    (OneCycle(warmup=0.5, final=0.1), {0: 0.04, 0.25: 0.52, 0.5: 1, 0.75: 0.55, 1: 0.1}),
    (OneCycle(warmup=0), {0: 1, 0.25: 0.75, 1: 0}),
    (Constant(), {0: 1, 0.9: 1}),
]


@pytest.mark.parametrize(("schedule", "factors"), SCHEDULES, ids=lambda value: type(value).__name__)
def test_schedules(schedule, factors):
    for progress, factor in factors.items():
        assert schedule(progress) == pytest.approx(factor)


@pytest.mark.parametrize("epochs", [50, 10, 20])
def test_a_step_schedule_decays_at_whole_epochs(epochs):
    schedule = StepDecay(15 / 50, 0.2)
    steps = 391 * epochs
    drops = [s for s in range(1, steps) if schedule(s / steps) != schedule((s - 1) / steps)]
    assert drops == [391 * epochs * 3 * i // 10 for i in (1, 2, 3)]


def test_the_norm_of_the_gradient_is_that_of_each_block_and_head_before_it_is_clipped(tiny_data):
    net = tiny_net()
    twin = copy.deepcopy(net)
    trainer = trainer_of(net, 0, 2, epochs=1, gradients=True, clip_norm=0.01)
    batch = next(iter(Recompute(tiny_data, PLAN, FP32).train(0, 0, 0, "labels")))
    terms = trainer.take_step(batch.inputs, batch.targets)
    F.cross_entropy(twin(batch.inputs, 2), batch.targets).backward()
    parts = {"gradient/block_1": twin.blocks[0], "gradient/block_2": twin.blocks[1], "gradient/head_2": twin.head(2)}
    assert {name for name in terms["means"] if name.startswith("gradient/")} == parts.keys()
    for name, part in parts.items():
        norm = torch.cat([p.grad.flatten() for p in part.parameters()]).norm()
        torch.testing.assert_close(terms["means"][name][0], norm)


def test_the_gradient_vanishes_end_to_end_through_sigmoids_and_not_block_by_block(trained):
    options = {"model": "mlp", "k": 1, "J": 5, "model.width": 16, "model.head_width": None, "model.downsample": None}
    options |= {"model.activation": "sigmoid", "epochs": 1, "evaluation.gradients": "true", "report": "true"}
    joint = trained(plan="joint", **options)
    lines = metrics_of(joint)
    assert all(line["gradients"].keys() == {*(f"block_{j}" for j in range(1, 6)), "head_5"} for line in lines)
    first = lines[0]["gradients"]
    assert first["block_1"] < 0.1 * first["block_5"]
    assert '"gradients"' in (joint / "report.html").read_text()
    greedy = [line["gradients"] for line in metrics_of(trained(plan="greedy", **options))]
    assert [sorted(norms) for norms in greedy] == [[f"block_{j}", f"head_{j}"] for j in range(1, 6)]
    assert greedy[0]["block_1"] > 10 * first["block_1"]
