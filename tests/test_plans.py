"""Simultaneous and grouped training, heads beside the paper's, compression, and stages of another run."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import layerwise
from helpers.commands import assert_refused
from helpers.configs import configured
from helpers.networks import plain_net, tiny_net
from helpers.run_folders import metrics_of, numbers, results_of
from layerwise.config.parse import to_yaml
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import load_tree
from layerwise.core.precision import Precision
from layerwise.core.types import Batch
from layerwise.models.blocknet import Segment, freeze
from layerwise.models.heads import PredSim, PredSimHead
from layerwise.models.mlp import Mlp
from layerwise.models.readout import Readout
from layerwise.runs.checkpoints import Checkpoints
from layerwise.runs.reuse import shared_stages
from layerwise.training import pruning
from layerwise.training.objectives import LocalLoss, cosine_similarities, similarity_loss
from layerwise.training.pruning import most_important, prune_block, pruned_copy, taylor_importance

FLOAT32 = Precision(torch.float32, "cpu")


def test_detached_blocks_learn_from_their_own_heads_only():
    net, x, y = plain_net(), torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    segment = Segment(net, 0, 3, (1, 2, 3), detached=True).eval()
    LocalLoss()(segment(x), y)["loss"].backward()
    together = {name: p.grad.clone() for name, p in net.named_parameters()}
    for depth in (1, 2, 3):
        alone = plain_net()
        freeze(alone.blocks[: depth - 1])
        features = alone.eval().features(x, depth - 1).detach()
        F.cross_entropy(alone.head(depth)(alone.blocks[depth - 1](features)), y).backward()
        for name, p in alone.named_parameters():
            if name.startswith((f"blocks.{depth - 1}.", f"heads.{depth}.")):
                torch.testing.assert_close(p.grad, together[name])


def test_without_the_gradient_stop_early_blocks_learn_from_later_heads():
    net, x, y = plain_net(), torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    gradients = []
    for detached in (True, False):
        net.zero_grad()
        LocalLoss()(Segment(net, 0, 3, (2, 3), detached).eval()(x), y)["loss"].backward()
        gradients.append(net.blocks[0][0].weight.grad.clone())
    assert not torch.allclose(*gradients)


def test_similarity_is_that_of_the_formula():
    embedding, y = torch.randn(5, 7), torch.tensor([0, 1, 0, 2, 1])

    def similarity(rows):
        centred = rows - rows.mean(1, keepdim=True)
        return torch.tensor([[float(F.cosine_similarity(a, b, dim=0)) for b in centred] for a in centred])

    wanted = similarity(F.one_hot(y, 3).float())
    torch.testing.assert_close(cosine_similarities(embedding), similarity(embedding))
    assert float(similarity_loss(embedding, y, 3)) == pytest.approx(
        float((similarity(embedding) - wanted).pow(2).mean())
    )
    z = torch.randn(5, 3)
    terms = LocalLoss(similarity=0.9)([Readout(z, embedding)], y)
    expected = 0.1 * F.cross_entropy(z, y) + 0.9 * similarity_loss(embedding, y, 3)
    torch.testing.assert_close(terms["loss"], expected)


def test_similarity_is_computed_in_float32_under_autocast():
    embedding, y = torch.randn(8, 16), torch.arange(8) % 3
    expected = similarity_loss(embedding, y, 3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(similarity_loss(embedding.bfloat16().float(), y, 3), expected, rtol=0.05, atol=1e-3)
        assert torch.equal(similarity_loss(embedding, y, 3), expected)


def test_predsim_embeds_in_training_only_and_its_projection_learns():
    net = tiny_net(head=PredSimHead())
    head, x = net.head(1), torch.randn(4, 3, 8, 8)
    assert isinstance(head, PredSim)
    segment = Segment(net, 0, 1, (1,))
    assert segment.eval()(x)[0].embedding is None
    (readout,) = segment.train()(x)
    projected = head.projection(segment.blocks[0](x)).flatten(2)
    torch.testing.assert_close(readout.embedding, projected.std(2), rtol=1e-3, atol=1e-4)
    LocalLoss()([readout], torch.tensor([0, 1, 2, 0]))["loss"].backward()
    assert head.projection.weight.grad.abs().sum() > 0


def test_a_constant_map_does_not_break_predsims_gradient():
    head = PredSim(2, 4, 3)
    nn.init.zeros_(head.projection.weight)
    x = torch.zeros(3, 2, 4, 4, requires_grad=True)
    LocalLoss()([Readout(head(x), head.embed(x))], torch.tensor([0, 1, 2]))["loss"].backward()
    assert x.grad.isfinite().all()
    assert head.projection.weight.grad.isfinite().all()


@pytest.mark.parametrize("downsample", [[], [2]])
def test_removing_filters_that_are_zero_changes_nothing(downsample):
    net = tiny_net(downsample=downsample).eval()
    kept = [0, 3, 4, 6]
    removed = [c for c in range(8) if c not in kept]
    with torch.no_grad():
        for c in removed:
            net.blocks[0][1].weight[c] = net.blocks[0][1].bias[c] = 0.0
    x = torch.randn(3, 3, 8, 8)
    before = [net(x, depth) for depth in (1, 2, 3)]
    size = sum(p.numel() for p in net.parameters())
    prune_block(net, 1, kept)
    assert net.features(x, 1).shape[1] == 4
    for depth in (1, 2, 3):
        torch.testing.assert_close(net(x, depth), before[depth - 1], rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in net.parameters()) < size
    assert net.blocks[1][-3].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_pruned_copy_has_the_final_shape_and_leaves_the_network_alone():
    net = tiny_net(downsample=[])
    copy = pruned_copy(net, [4, 4, 4])
    x = torch.randn(2, 3, 8, 8)
    assert [copy.eval().features(x, j).shape[1] for j in (1, 2, 3)] == [4, 4, 4]
    assert [net.eval().features(x, j).shape[1] for j in (1, 2, 3)] == [8, 8, 8]
    assert copy(x).shape == (2, 3)


def test_importance_is_the_first_order_change_of_the_loss():
    net = plain_net().eval()
    x, y = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    found = taylor_importance(net.blocks[0], net.head(1), [Batch(x[:4], y[:4]), Batch(x[4:], y[4:])], FLOAT32)
    expected = torch.zeros(8, dtype=torch.float64)
    for i in range(6):  # one sample at a time, as the paper writes it
        maps = net.blocks[0](x[i : i + 1]).detach().requires_grad_(True)
        F.cross_entropy(net.head(1)(maps), y[i : i + 1]).backward()
        expected += (maps.grad * maps.detach()).mean((2, 3)).abs()[0].double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert most_important(torch.tensor([3.0, 1.0, 5.0, 4.0]), 2) == [2, 3]


def test_simultaneous_training_is_one_stage_with_a_row_per_depth(trained):
    folder = trained(plan="simultaneous", J=3)
    results = results_of(folder)
    assert [row["block"] for row in results["blocks"]] == [1, 2, 3]
    assert results["plan"] == "simultaneous"
    lines = metrics_of(folder)
    assert len(lines) == 6  # J × epochs
    assert [head["block"] for head in lines[-1]["heads"]] == [1, 2, 3]
    assert lines[-1]["heads"][-1]["loss"] == lines[-1]["loss"] == results["blocks"][-1]["train"]["loss"]
    net = layerwise.load(folder)
    assert net.depths == (1, 2, 3)


@pytest.mark.parametrize("plan", ["greedy", "simultaneous"])
def test_blocks_can_be_grouped(trained, plan):
    folder = trained("plan.blocks_per_stage=2", plan=plan, J=3)
    results = results_of(folder)
    assert [row["block"] for row in results["blocks"]] == [2, 3]
    net = layerwise.load(folder)
    sizes = [sum(p.numel() for p in block.parameters()) for block in net.blocks]
    assert [row["parameters"]["block"] for row in results["blocks"]] == [sizes[0] + sizes[1], sizes[2]]


@pytest.mark.parametrize("head", ["mlp_sr", "predsim"])
def test_other_heads_train_and_load(trained, head):
    plain = {"model.head_width": None}
    folder = trained(
        f"model.head={head}", "optimizer.lr=0.01", plan="simultaneous", optimizer="adam", epochs=8, **plain
    )
    results = results_of(folder)
    assert results["final"]["ensemble_top1"] > 20  # chance is 10
    lines = metrics_of(folder)
    assert lines[-1]["loss"] < lines[0]["loss"]
    layerwise.load(folder)


PRUNED = {"plan.prune_to": 4, "plan.prune_epochs": 1, "J": 3, "model.downsample": "[3]"}


def test_each_block_is_pruned_and_the_next_one_sees_the_smaller_one(trained):
    folder = trained(**PRUNED)
    net = layerwise.load(folder)
    channels = [net.features(torch.randn(1, 1, 8, 8), j).shape[1] for j in (1, 2, 3)]
    assert channels == [4, 4, 8]
    results = results_of(folder)
    assert [row["block"] for row in results["blocks"]] == [1, 2, 3]
    for row in results["blocks"]:
        assert row["before"]["parameters"]["block"] > row["parameters"]["block"]
        assert row["before"]["test"] != row["test"]
    parameters = sum(p.numel() for p in (*net.blocks.parameters(), *net.head(3).parameters()))
    assert results["final"]["parameters"] == parameters
    kept = [load_tree(folder / "checkpoints" / f"stage_{s}.safetensors")["kept_filters"] for s in range(1, 7)]
    assert [len(k) if k else k for k in kept] == [4, None, 4, None, 8, None]


PERCEPTRON = {"model": "mlp", "k": 1, "J": 3, **dict.fromkeys(["model.head_width", "model.downsample"])}


@pytest.mark.parametrize("more", [{}, {"k": 2, "model.batch_norm": "true", "plan.prune_rounds": 3}], ids=["", "norms"])
def test_perceptrons_lose_units(trained, more):
    options = {**PERCEPTRON, "model.width": 16, "plan.prune_to": 8, "plan.prune_epochs": 10, "epochs": 10}
    options |= {"dataset.limit": 600, "batch_size": 20, **more}
    folder = trained("optimizer.lr=0.01", optimizer="adam", **options)
    net, results = layerwise.load(folder), results_of(folder)
    assert [net.features(torch.randn(1, 1, 8, 8), j).shape[1] for j in (1, 2, 3)] == [8, 8, 8]
    assert all(row["before"]["parameters"]["block"] > row["parameters"]["block"] for row in results["blocks"])
    assert results["final"]["parameters"] == sum(
        p.numel() for p in (*net.blocks.parameters(), *net.head(3).parameters())
    )
    assert results["blocks"][-1]["test"]["top1"] > 45  # chance is 10


def test_the_unit_that_goes_is_the_one_that_the_loss_misses_least():
    net = Mlp([4, 4]).build((2,), 1, seed=0).eval()
    x = torch.randn(30, 2)
    with torch.no_grad():
        net.blocks[0][1].weight[2] = 0  # unit 3 says nothing
        net.blocks[0][1].bias[2] = 0
        net.head(1)[0].weight[:, 0] = 0  # and unit 1 is not heard
    values = 3 * x[:, 0]  # real-valued targets
    kept = pruning.filters_to_keep(net, 1, 2, 1, lambda: [Batch(x, values)], FLOAT32)
    assert kept == [1, 3]
    before, hidden = net(x, 1), net.features(x, 1)
    prune_block(net, 1, kept)
    torch.testing.assert_close(net(x, 1), before)
    torch.testing.assert_close(net.features(x, 1), hidden[:, kept])


LAST_HEAD = {**PRUNED, "J": 2, "model.downsample": "[]", "plan.prune_rounds": 2, "plan.last_head_width": 3}


def test_the_last_head_of_a_compressed_network_is_trained_anew(trained):
    folder = trained(**LAST_HEAD)
    net, results = layerwise.load(folder), results_of(folder)
    assert [[m.out_channels for m in net.head(j).modules() if isinstance(m, nn.Conv2d)] for j in (1, 2)] == [[8], [3]]
    assert net.head(2)[0].in_channels == 4
    assert [(line["stage"], line["epoch"]) for line in metrics_of(folder)][-2:] == [(5, 1), (5, 2)]
    parameters = sum(p.numel() for p in (*net.blocks.parameters(), *net.head(2).parameters()))
    assert results["final"]["parameters"] == parameters
    wide = layerwise.load(trained(**LAST_HEAD | {"plan.last_head_width": None}))
    for narrow, other in zip(net.blocks.parameters(), wide.blocks.parameters(), strict=True):
        assert torch.equal(narrow, other)  # the blocks do not know of it


def test_rounds_measure_the_criterion_without_the_filters_that_have_gone(monkeypatch):
    net, x, y = plain_net().eval(), torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    seen = []

    def importance(block, head, batches, precision):
        found = taylor_importance(block, head, batches, precision)
        seen.append(found)
        return found

    monkeypatch.setattr(pruning, "taylor_importance", importance)
    kept = pruning.filters_to_keep(net, 1, 2, 3, lambda: [Batch(x, y)], FLOAT32)
    assert [len(one) for one in seen] == [8, 6, 4]
    trial, numbers_left = copy.deepcopy(net), list(range(8))
    for n in (6, 4, 2):
        staying = most_important(taylor_importance(trial.blocks[0], trial.head(1), [Batch(x, y)], FLOAT32), n)
        numbers_left = [numbers_left[i] for i in staying]
        prune_block(trial, 1, staying)
    assert kept == numbers_left
    assert net.blocks[0][0].out_channels == 8


def test_a_crash_between_saving_a_block_and_pruning_it_loses_nothing(
    train_py, tmp_path, monkeypatch, rows_of_whole_run
):
    whole = rows_of_whole_run(**PRUNED)
    original = Checkpoints.save_finished

    def crash_after_saving(self, saved, tree):
        original(self, saved, tree)
        if saved.index + 1 == 3:
            raise LayerwiseError("crash")

    monkeypatch.setattr(Checkpoints, "save_finished", crash_after_saving)
    assert train_py(name="part", **PRUNED).code == 2
    monkeypatch.setattr(Checkpoints, "save_finished", original)
    net = layerwise.load(tmp_path / "out" / "part")
    assert net.depths == (1,)  # block 2 is pruned, but its head is not fine-tuned yet
    assert train_py(name="part", **PRUNED).code == 0
    assert numbers(results_of(tmp_path / "out" / "part")) == whole


def unmarked(results):
    """The numbers of a run, without the mark of rows that another run trained."""
    return [{name: value for name, value in row.items() if name != "reused"} for row in numbers(results)]


PRUNED_PAIR = {**PRUNED, "J": 2, "model.downsample": "[2]"}


@pytest.mark.parametrize(
    ("first", "changes", "shared"),
    [
        ({}, {"model.final_head_width": 4}, "1 of 2 stages"),
        ({}, {"J": 3}, "1 of 3 stages"),
        (PRUNED_PAIR, {"model.final_head_width": 4}, "2 of 4 stages"),  # the last block, pruned, is not shared
    ],
    ids=["a smaller last head", "deeper", "pruned"],
)
def test_a_run_on_finished_stages_of_another_equals_one_from_the_start(
    train_py, trained, tmp_path, first, changes, shared
):
    source, options = trained(name="first", **first), first | changes
    scratch = results_of(trained(name="scratch", **options))
    outcome = train_py(name="reused", **options, **{"plan.reuse": source})
    assert outcome.code == 0, outcome.err
    assert shared in outcome.err
    reused = results_of(tmp_path / "out" / "reused")
    assert numbers(scratch) == unmarked(reused)
    own = [row for row in reused["blocks"] if row.get("reused") != str(source)]
    assert [row["block"] for row in own] == list(range(2, reused["J"] + 1))
    assert reused["seconds"] == pytest.approx(sum(sum(row["seconds"].values()) for row in own))
    assert (source / "checkpoints" / "stage_2.safetensors").exists()


def test_a_run_that_has_begun_keeps_its_own_stages(train_py, tmp_path):
    assert train_py(name="two").code == 0
    assert train_py(name="own", J=3).code == 0
    for stage in (2, 3):
        (tmp_path / "out" / "own" / "checkpoints" / f"stage_{stage}.safetensors").unlink()
    outcome = train_py(name="own", J=3, **{"plan.reuse": tmp_path / "out" / "two"})
    assert outcome.code == 0
    assert "are taken from" not in outcome.err
    assert not any("reused" in row for row in results_of(tmp_path / "out" / "own")["blocks"])


def test_a_wrong_folder_to_reuse_does_not_cost_the_old_run(train_py, tmp_path):
    assert train_py(name="old").code == 0
    for source in ("/nowhere", tmp_path / "out" / "old"):
        assert train_py(name="old", fresh="true", **{"plan.reuse": source}).code == 2
        assert results_of(tmp_path / "out" / "old")["status"] == "completed"


def test_stages_of_other_data_are_not_reused(train_py, tmp_path):
    table, keys = tmp_path / "t.csv", {"dataset": "table", "dataset.path": tmp_path / "t.csv", "model": "mlp", "k": 1}
    keys |= dict.fromkeys(("model.head_width", "model.downsample", "dataset.limit", "dataset.limit_test"))
    for name, sign in (("first", 1), ("second", -1)):
        rows = [f"{sign * (i % 7)}.5,{i * i % 5},{'ab'[i % 2]}" for i in range(200)]
        table.write_text("\n".join(["x,z,kind", *rows]) + "\n")
        reuse = {"plan.reuse": tmp_path / "out" / "first", "J": 3} if name == "second" else {}
        outcome = train_py(name=name, **keys, **reuse)
        assert outcome.code == (2 if reuse else 0), outcome.err
    assert_refused(outcome, "plan.reuse=", "the data are not those that", "Leave plan.reuse out")
    assert not (tmp_path / "out" / "second").exists()


def test_stages_whose_weight_depends_on_the_depth_are_not_reused(tmp_path):
    runs = [configured("objective.transport=0.1", f"J={J}", "model.downsample=[]") for J in (3, 5)]
    (tmp_path / "config.yaml").write_text(to_yaml(runs[0]))
    with pytest.raises(LayerwiseError, match="weighs blocks by J, which is 3 there and 5 here"):
        shared_stages(tmp_path, runs[1], tmp_path / "other")


def test_a_network_that_depends_on_the_depth_is_not_reused(train_py, tmp_path, monkeypatch):
    (tmp_path / "grown.py").write_text(
        "from torch import nn\n\n\ndef blocks(shape, J):\n"
        "    widths = [shape[0], *[J + 2] * J]\n"
        "    return [nn.Sequential(nn.Flatten(), nn.Linear(64 if i == 0 else a, b)) for i, (a, b) in "
        "enumerate(zip(widths, widths[1:]))]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    keys = {"model": "own", "model._target_": "grown.blocks", "k": 1}
    keys |= dict.fromkeys(("model.width", "model.head_width", "model.downsample"))
    assert (first := train_py(name="two", **keys, J=2)).code == 0, first.err
    source = tmp_path / "out" / "two"
    assert_refused(
        train_py(name="three", **keys, **{"plan.reuse": source, "J": 3}), "block 1 has another network there"
    )
    assert (again := train_py(name="three", **keys, J=3)).code == 0, again.err


def test_a_run_that_differs_in_more_than_its_last_stage_is_not_reused(train_py, trained):
    assert_refused(train_py(name="two", seed=1, **{"plan.reuse": trained(name="one")}), "seed: 0 there, 1 here")


@pytest.mark.parametrize("plan", ["joint", "greedy", "simultaneous"])
def test_timm_networks_run_through_the_same_trainer(trained, plan):
    plain = {"model.width": None, "model.head_width": None, "model.downsample": None, "J": None}
    folder = trained(
        "model=timm",
        "model.name=test_resnet",
        "batch_size=50",
        plan=plan,
        epochs=1,
        **plain,
        precision="fp32",
        **{"optimizer.lr": 0.01, "plan.epochs": 1},
    )
    results = results_of(folder)
    assert results["model"] == "test_resnet"
    assert len(results["blocks"]) == (1 if plan == "joint" else 5)
    layerwise.load(folder)
