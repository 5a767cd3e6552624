"""The moving average of the weights: what it is, when it is in use, and that a stage goes on with it to the bit."""

from __future__ import annotations

import pytest
import torch

from helpers.networks import tiny_net
from helpers.run_folders import metrics_of, numbers, results_of
from helpers.training import train, trainer_of
from layerwise.training.averaging import WeightAverage
from layerwise.training.team import Team


def weights_of(module: torch.nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values() if tensor.is_floating_point()]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_average_is_the_textbooks_with_a_decay_that_warms_up():
    module = torch.nn.BatchNorm1d(2)
    average, expected = WeightAverage(module, decay=0.3), torch.zeros(2)
    for t, value in enumerate((5.0, 1.0, 2.0, 4.0, -3.0, 7.0)):
        module.weight.data.fill_(value)
        module.running_mean.fill_(2 * value)
        average.update()
        kept = min(0.3, t / (t + 9))
        expected = kept * expected + (1 - kept) * value
    with average.in_place():
        torch.testing.assert_close(module.weight.data, expected)
        torch.testing.assert_close(module.running_mean, 2 * expected)
    assert torch.equal(module.weight.data, torch.full((2,), 7.0))
    average.adopt()
    torch.testing.assert_close(module.weight.data, expected)


def test_training_does_not_depend_on_it_and_the_stage_ends_with_it(tiny_data):
    plain, averaged = trainer_of(tiny_net()), trainer_of(tiny_net(), average=0.9)
    reports = [train(trainer, tiny_data) for trainer in (plain, averaged)]
    assert [report.scores for report in reports[0]] == [report.scores for report in reports[1]]
    last = weights_of(plain.segment)
    assert_same(weights_of(averaged.segment), last)
    with averaged.final_weights():
        seen = weights_of(averaged.segment)
    assert not any(torch.equal(a, b) for a, b in zip(seen, last, strict=True))
    assert_same(weights_of(averaged.segment), last)
    averaged.end()
    assert_same(weights_of(averaged.segment), seen)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_processes_average_the_statistics_of_the_weights_and_of_their_average_once_each(tiny_data, average):
    """The mean of three equal numbers need not be that number in floats, so a second mean would change a run."""

    class Counting(Team):
        def __init__(self):
            self.synced = []

        def sync_weights(self, segment):
            self.synced.append(next(segment.parameters()).detach().clone())

    trainer = trainer_of(tiny_net(), average=average)
    train(trainer, tiny_data)
    trainer.team = Counting()
    trainer.state_dict()
    weights, *averages = trainer.team.synced
    assert torch.equal(weights, next(trainer.segment.parameters()))
    assert [torch.equal(weights, other) for other in averages] == ([False] if average else [])


def test_a_run_is_judged_by_its_average(trained):
    folders = [trained(**{"optimizer.average": average, "evaluation.every": 1}) for average in (0.0, 0.9)]
    plain, averaged = (numbers(results_of(folder)) for folder in folders)
    assert plain[0]["train"] == averaged[0]["train"]
    assert plain[0]["test"] != averaged[0]["test"]
    lines = metrics_of(folders[1])
    assert [line["test"] for line in lines if line["epoch"] == 2] == [row["test"] for row in averaged]
