"""Anytime prediction: when samples leave, what that costs, and how thresholds are chosen."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import pytest
import torch

from helpers.commands import assert_refused, run_script
from helpers.run_folders import only_run
from layerwise.analysis.anytime import (
    NEVER,
    Policy,
    Predictor,
    choose_policies,
    choose_threshold,
    exit_macs,
    leaving_macs,
    operating_point,
    predictions,
)
from layerwise.models.choices import EnsembleOn
from layerwise.models.costs import BlockCost
from layerwise.models.ensemble import ensemble

MACS = torch.tensor([10, 30, 60])


def random_scores(n: int = 200, seed: int = 0) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {depth: depth * torch.randn(n, 4, generator=generator) for depth in (1, 2, 3)}


def heads_of(scores):
    return predictions(scores, Predictor.head, EnsembleOn.logits)


def costs(*macs: tuple[int, int]) -> list[BlockCost]:
    return [BlockCost(j, (1, 2, 2), 0, 0, block, head, 0) for j, (block, head) in enumerate(macs, 1)]


def test_a_sample_leaves_at_the_first_depth_that_is_confident():
    half, sure = [0.0, 0.0], [0.0, 4.0]  # confidences 0.5 and 0.982
    made = heads_of(
        {
            1: torch.tensor([sure, half, half, half]),
            2: torch.tensor([half, sure, half, sure]),
            3: torch.tensor([half, sure, sure, half]),
        }
    )
    assert made.leaving(0.9).tolist() == [0, 1, 2, 1]
    assert made.leaving(0.5).tolist() == [0, 0, 0, 0]  # reaching the threshold is enough
    assert made.mean_macs(0.9, MACS) == (10 + 30 + 60 + 30) / 4
    labels = torch.tensor([1, 0, 1, 1])
    point = operating_point(made, labels, MACS, Policy((0, 1, 2), 0.9))
    assert point == {"threshold": 0.9, "macs": 32.5, "test_top1": 75.0, "leaving": [25.0, 50.0, 25.0]}
    point = operating_point(made, labels, MACS[[0, 2]], Policy((0, 2), 0.9))  # depth 2 is not asked
    assert point == {"threshold": 0.9, "macs": 47.5, "test_top1": 50.0, "leaving": [25.0, 0.0, 75.0]}


def test_cost_and_depth_never_fall_as_the_threshold_rises():
    made = heads_of(random_scores())
    positions = [made.leaving(threshold / 20) for threshold in range(22)]
    assert all((low <= high).all() for low, high in pairwise(positions))
    means = [made.mean_macs(threshold / 20, MACS) for threshold in range(22)]
    assert means == sorted(means)
    assert (means[0], means[-1]) == (10, 60)
    assert 10 < means[15] < 60


@pytest.mark.parametrize("on", EnsembleOn)
def test_the_ensemble_predicts_with_all_heads_up_to_a_depth(on):
    scores = random_scores()
    made = predictions(scores, Predictor.ensemble, on)
    for position, depth in enumerate((1, 2, 3)):
        combined = ensemble({d: z for d, z in scores.items() if d <= depth}, on)
        assert torch.equal(made.classes[position], combined.argmax(1))
    assert (made.confidence > 1 / 4).all()
    assert (made.confidence <= 1 + 1e-6).all()


def test_costs_count_the_heads_on_the_way():
    network = costs((100, 1), (200, 2), (400, 0), (800, 4))  # no head at depth 3
    assert leaving_macs(network, [1, 2, 4]).tolist() == [101, 303, 1507]
    assert exit_macs(network, [1, 2, 4], [0, 2], Predictor.head).tolist() == [101, 1505]
    assert exit_macs(network, [1, 2, 4], [2], Predictor.head).tolist() == [1504]
    assert exit_macs(network, [1, 2, 4], [0, 2], Predictor.ensemble).tolist() == [101, 1507]


@pytest.mark.parametrize("target", [10, 11, 25, 40.5, 59.99, 60])
def test_the_threshold_is_the_highest_one_that_the_target_can_pay(target):
    made = heads_of(random_scores())
    threshold = choose_threshold(made, MACS, target)
    assert made.mean_macs(threshold, MACS) <= target
    higher = [c for c in (*made.confidence[:-1].flatten().tolist(), NEVER) if c > threshold]
    assert not higher or made.mean_macs(min(higher), MACS) > target


@pytest.mark.parametrize("on", Predictor)
def test_a_policy_is_the_best_that_its_cost_can_pay(on):
    made, labels = heads_of(random_scores()), torch.arange(200) % 4
    network = costs((10, 5), (10, 50), (40, 5))
    policies = choose_policies(made, labels, network, [1, 2, 3], on, points=8)
    assert len(policies) == len(set(policies))
    paid = [made.at(p.exits).mean_macs(p.threshold, exit_macs(network, [1, 2, 3], p.exits, on)) for p in policies]
    reached = [made.at(p.exits).top1(p.threshold, labels) for p in policies]
    assert policies[0].exits[0] == 0
    assert paid[0] == 15
    limit = exit_macs(network, [1, 2, 3], [2], on)[0]
    assert all(cost <= limit + 1 for cost in paid)
    assert reached == sorted(reached)  # more cost never buys less on the split that it is chosen on
    for position in range(3):  # one depth for all is a policy, too
        fixed = int(exit_macs(network, [1, 2, 3], [position], on)[0])
        affordable = [accuracy for cost, accuracy in zip(paid, reached, strict=True) if cost <= limit + 1]
        if fixed <= limit:
            assert max(affordable) >= made.at([position]).top1(0.0, labels)


TRAINED = {"dataset.validation": 0.2, "dataset.limit": "null", "J": 3, "epochs": 4, "name": "run"}


@pytest.mark.parametrize(("plan", "on"), [("greedy", "head"), ("simultaneous", "ensemble")])
def test_the_script_reports_what_the_run_stored(train_py, tmp_path, plan, on):
    assert train_py(plan=plan, **TRAINED).code == 0
    folder = tmp_path / "out" / "run"
    outcome = run_script("anytime", f"run={folder}", f"on={on}", "points=6")
    assert outcome.code == 0, outcome.err
    assert "exits" in outcome.out
    assert (folder / "anytime.png").stat().st_size > 10_000
    written = json.loads((folder / "anytime.json").read_text())
    assert (written["name"], written["on"], written["depths"]) == ("run", on, [1, 2, 3])
    rows = json.loads((folder / "results.json").read_text())["blocks"]
    known = [row["test"]["top1"] if on == "head" else row["ensemble"]["top1"] for row in rows]
    assert [row["test_top1"] for row in written["fixed"]] == known
    points = written["points"]
    assert points[0]["macs"] == written["fixed"][0]["macs"]
    assert all(set(point["exits"]) <= {1, 2, 3} for point in points)
    costs_paid = [point["validation_macs"] for point in points]
    assert max(costs_paid) <= written["fixed"][-1]["macs"] + 1
    assert all(sum(point["leaving"]) == pytest.approx(100) for point in points)
    assert points[0]["saving"] > 50


def test_thresholds_do_not_depend_on_the_test_images(train_py, tmp_path):
    thresholds = []
    for limit_test in (50, 100):
        assert train_py(**TRAINED | {"name": f"run{limit_test}", "dataset.limit_test": limit_test, "J": 2}).code == 0
        folder = tmp_path / "out" / f"run{limit_test}"
        assert run_script("anytime", f"run={folder}", "points=6").code == 0
        points = json.loads((folder / "anytime.json").read_text())["points"]
        thresholds.append([(point["exits"], point["threshold"], point["validation_macs"]) for point in points])
    assert thresholds[0] == thresholds[1]


def test_runs_without_validation_or_depths_are_refused(train_py, tmp_path):
    folder = tmp_path / "out" / "run"
    assert train_py(name="run", epochs=1).code == 0
    assert_refused(run_script("anytime", str(folder)), "Train it with dataset.validation=0.1")
    assert train_py(name="run", epochs=1, fresh="true", **{"dataset.validation": 0.1}).code == 0
    (folder / "checkpoints" / "stage_2.safetensors").unlink()
    assert_refused(run_script("anytime", str(folder)), "only depth 1 has a trained classifier")
    shutil.rmtree(folder / "checkpoints")
    for command in ("anytime", "probe"):
        assert_refused(run_script(command, str(folder)), "no block is finished")


def test_a_table_that_changed_is_refused(train_py, tmp_path):
    """Else the stored scores would be compared with the labels of other rows."""
    path = tmp_path / "table.csv"
    lines = [f"{i % 7},{i % 5},{'ab'[i % 7 > 3]}" for i in range(200)]
    path.write_text("\n".join(["x,y,class", *lines]))
    leave_out = dict.fromkeys(("model.head_width", "model.downsample", "dataset.limit", "dataset.limit_test"))
    options = {"dataset": "table", "dataset.path": path, "model": "mlp", "dataset.validation": 0.2, "batch_size": 32}
    assert train_py(**leave_out | options).code == 0
    path.write_text("\n".join(["x,y,class", *(line.translate({97: 98, 98: 97}) for line in lines)]))
    outcome = run_script("anytime", f"run={only_run(tmp_path)}")
    assert outcome.code == 2
    assert "the data are not those that" in outcome.err
