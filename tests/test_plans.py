"""Simultaneous and grouped training, heads beside the paper's, compression, and stages of another run."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import layerwise
from helpers.networks import plain_net, tiny_net
from helpers.run_folders import metrics_of, numbers, only_run, results_of
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import load_tree
from layerwise.core.precision import Precision
from layerwise.core.types import Batch
from layerwise.models.blocknet import Readout, Segment, freeze
from layerwise.models.heads import PredSim, PredSimHead
from layerwise.runs.checkpoints import Checkpoints
from layerwise.training.objectives import LocalLoss, cosine_similarities, similarity_loss
from layerwise.training.plan import compressed, greedy, group_ends, simultaneous
from layerwise.training.pruning import most_important, prune_block, pruned_copy, taylor_importance

FLOAT32 = Precision(torch.float32, "cpu")


@given(J=st.integers(1, 12), size=st.integers(1, 15))
@settings(max_examples=50, deadline=None)
def test_groups_cover_all_blocks_once(J, size):
    stages = greedy(J, 1, blocks_per_stage=size)
    assert [stage.stop for stage in stages] == group_ends(J, size)
    blocks = [j for stage in stages for j in range(stage.start + 1, stage.stop + 1)]
    assert blocks == list(range(1, J + 1))
    assert all(stage.depths == (stage.stop,) and stage.stop - stage.start <= size for stage in stages)
    (together,) = simultaneous(J, 1, blocks_per_stage=size)
    assert (together.start, together.stop, together.depths) == (0, J, tuple(group_ends(J, size)))


def test_a_compressed_plan_alternates_between_blocks_and_heads():
    stages = compressed(2, 5, prune_to=[4, 8], prune_epochs=3)
    assert [(s.start, s.stop, s.epochs, s.prune_to) for s in stages] == [
        (0, 1, 5, 4),
        (1, 1, 3, None),
        (1, 2, 5, 8),
        (2, 2, 3, None),
    ]
    assert [s.title for s in stages] == ["block 1", "head 1", "block 2", "head 2"]


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


def test_a_segment_without_blocks_reads_its_input():
    net = tiny_net().eval()
    features = net.features(torch.randn(2, 3, 8, 8), 2)
    (readout,) = Segment(net, 2, 2, (2,)).eval()(features)
    assert torch.equal(readout.scores, net.head(2)(features))


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


def test_simultaneous_training_is_one_stage_with_a_row_per_depth(train_py, tmp_path):
    assert train_py(plan="simultaneous", J=3).code == 0
    folder = only_run(tmp_path)
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
def test_blocks_can_be_grouped(train_py, tmp_path, plan):
    assert train_py("plan.blocks_per_stage=2", plan=plan, J=3).code == 0
    results = results_of(only_run(tmp_path))
    assert [row["block"] for row in results["blocks"]] == [2, 3]
    net = layerwise.load(only_run(tmp_path))
    sizes = [sum(p.numel() for p in block.parameters()) for block in net.blocks]
    assert [row["parameters"]["block"] for row in results["blocks"]] == [sizes[0] + sizes[1], sizes[2]]


def test_a_simultaneous_run_that_is_stopped_goes_on_to_the_bit(assert_goes_on_to_the_bit):
    options = {"optimizer": "adam", "model.head": "predsim", "model.head_width": None}
    assert_goes_on_to_the_bit(lambda stage, saved: saved == 2, plan="simultaneous", **options)


@pytest.mark.parametrize("head", ["mlp_sr", "predsim"])
def test_other_heads_train_and_load(train_py, tmp_path, head):
    plain = {"model.head_width": None}
    outcome = train_py(
        f"model.head={head}", "optimizer.lr=0.01", plan="simultaneous", optimizer="adam", epochs=8, **plain
    )
    assert outcome.code == 0, outcome.err
    results = results_of(only_run(tmp_path))
    assert results["final"]["ensemble_top1"] > 20  # chance is 10
    lines = metrics_of(only_run(tmp_path))
    assert lines[-1]["loss"] < lines[0]["loss"]
    layerwise.load(only_run(tmp_path))


PRUNED = {"plan.prune_to": 4, "plan.prune_epochs": 1, "J": 3, "model.downsample": "[3]"}


def test_each_block_is_pruned_and_the_next_one_sees_the_smaller_one(train_py, tmp_path):
    assert train_py(**PRUNED).code == 0
    folder = only_run(tmp_path)
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


@pytest.mark.parametrize("stopped", [2, 3])
def test_a_pruned_run_that_is_stopped_in_any_stage_goes_on_to_the_bit(assert_goes_on_to_the_bit, stopped):
    """Stage 2 trains a head alone, 3 a block that is pruned behind it."""
    assert_goes_on_to_the_bit(lambda stage, saved: stage == stopped, **PRUNED)


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


def test_a_smaller_last_head_on_finished_features_equals_a_run_from_the_start(train_py, tmp_path):
    assert train_py(name="wide").code == 0
    assert train_py("model.final_head_width=4", name="scratch").code == 0
    outcome = train_py("model.final_head_width=4", name="reused", **{"plan.reuse": tmp_path / "out" / "wide"})
    assert outcome.code == 0, outcome.err
    assert "1 of 2 stages" in outcome.err
    scratch, reused = (results_of(tmp_path / "out" / name) for name in ("scratch", "reused"))
    assert numbers(scratch) == unmarked(reused)
    assert [row.get("reused") for row in reused["blocks"]] == [str(tmp_path / "out" / "wide"), None]
    assert reused["seconds"] == pytest.approx(sum(reused["blocks"][1]["seconds"].values()))
    assert (tmp_path / "out" / "wide" / "checkpoints" / "stage_2.safetensors").exists()


def test_a_finished_network_can_be_made_deeper(train_py, tmp_path):
    assert train_py(name="two").code == 0
    assert train_py(name="three", J=3).code == 0
    assert train_py(name="more", J=3, **{"plan.reuse": tmp_path / "out" / "two"}).code == 0
    assert numbers(results_of(tmp_path / "out" / "three")) == unmarked(results_of(tmp_path / "out" / "more"))


def test_a_run_that_has_begun_keeps_its_own_stages(train_py, tmp_path):
    assert train_py(name="two").code == 0
    assert train_py(name="own", J=3).code == 0
    for stage in (2, 3):
        (tmp_path / "out" / "own" / "checkpoints" / f"stage_{stage}.safetensors").unlink()
    outcome = train_py(name="own", J=3, **{"plan.reuse": tmp_path / "out" / "two"})
    assert outcome.code == 0
    assert "are taken from" not in outcome.err
    assert not any("reused" in row for row in results_of(tmp_path / "out" / "own")["blocks"])


def test_the_pruned_last_block_is_not_shared(train_py, tmp_path):
    small = {**PRUNED, "J": 2, "model.downsample": "[2]"}
    assert train_py(name="one", **small).code == 0
    other = small | {"model.final_head_width": 4}
    outcome = train_py(name="two", **other, **{"plan.reuse": tmp_path / "out" / "one"})
    assert outcome.code == 0, outcome.err
    assert "2 of 4 stages" in outcome.err
    assert train_py(name="scratch", **other).code == 0
    assert unmarked(results_of(tmp_path / "out" / "two")) == numbers(results_of(tmp_path / "out" / "scratch"))


def test_a_wrong_folder_to_reuse_does_not_cost_the_old_run(train_py, tmp_path):
    assert train_py(name="old").code == 0
    for source in ("/nowhere", tmp_path / "out" / "old"):
        assert train_py(name="old", fresh="true", **{"plan.reuse": source}).code == 2
        assert results_of(tmp_path / "out" / "old")["status"] == "completed"


BAD = [
    ({"plan.prune_to": 8}, r"plan\.prune_to=8 must be less than model\.width=8"),
    ({"plan.prune_to": 4, "k": 1}, r"plan\.prune_to=4 needs k=2"),
    ({"plan.prune_to": 4, "plan.blocks_per_stage": 2}, "cannot be combined with plan.blocks_per_stage"),
    ({"plan.blocks_per_stage": 0}, r"plan\.blocks_per_stage=0: must be 1 or more"),
    ({"plan.reuse": "/nowhere"}, "/nowhere/config.yaml: cannot be read"),
    ({"model.head": "mlp", "plan": "simultaneous"}, "model.head"),
    ({"objective.similarity": 1.5}, r"objective\.similarity=1\.5: must be at least 0 and at most 1"),
    (
        {"model.head": "mlp_sr", "model.head_width": None, "dataset.limit": 193},
        "leaves a last batch of 1 of the 193 samples",
    ),
    ({"model.head": "predsim", "model.pool": 3}, r"model\.pool=3 has no effect: it needs model\.head=cnn"),
    ({"k": 1, "model.final_head_width": 4}, r"model\.final_head_width=4 has no effect: it needs .* k=2 or more"),
    ({"plan": "joint", "+plan.prune_to": 4}, r"plan\.prune_to=4: only plan=greedy prunes"),
    ({"plan": "joint", "plan.prune_to": 4}, r"unknown key 'plan\.prune_to'\. Another choice of plan=… has it"),
    ({"plan": "joint", "+plan.reuse": "x"}, r"plan\.reuse: only the stages of plan=greedy"),
    ({"plan.warm_start": "true", "model.final_head_width": 4, "model.downsample": "[]"}, "each head starts as a copy"),
    ({"model.input_downsample": "true", "model.downsample": "[1,2]"}, "falls below 2×2 at block 2"),
    ({"plan.warm_start": "true", "plan.blocks_per_stage": 2}, "needs model=simcnn and plan.blocks_per_stage=1"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_combinations_are_refused(train_py, tmp_path, overrides, message):
    outcome = train_py(**overrides)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert not list((tmp_path / "out").glob("*"))  # no folder of a run that never began
    assert re.search(message, outcome.err), outcome.err


def test_a_run_that_differs_in_more_than_its_last_stage_is_not_reused(train_py, tmp_path):
    assert train_py(name="one").code == 0
    outcome = train_py(name="two", seed=1, **{"plan.reuse": tmp_path / "out" / "one"})
    assert outcome.code == 2
    assert "seed: 0 there, 1 here" in outcome.err


MODELS = [
    (["model=timm"], "choose a network with model.name"),
    (["model=timm", "model.name=resnet81"], "timm has no such network. Did you mean resnet18"),
    (["model=timm", "model.name=test_vit"], "cannot be cut into blocks"),
    (["model=timm", "model.name=resnet18", "J=3"], "resnet18 has 5 block"),
    (["model=timm", "model.name=resnet18", "model.head=pooled"], "model.head=pooled. Use cnn, mlp_sr, predsim."),
    (["model=vgg", "model.depth=12"], "there is no such VGG. Known: 11, 13, 16, 19"),
    (["model=vgg"], "8×8 pixels are too small"),
    (
        ["experiment=paper_imagenet_k3_head512", "model=vgg", "dataset=digits"],
        "model.final_head_width=512: model=vgg has no",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), MODELS, ids=[message for _, message in MODELS])
def test_networks_that_do_not_exist_or_fit_say_so(train_py, overrides, message):
    plain = {"model.width": None, "model.head_width": None, "model.downsample": None, "J": None}
    outcome = train_py(*overrides, **plain)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("plan", ["joint", "greedy", "simultaneous"])
def test_timm_networks_run_through_the_same_trainer(train_py, tmp_path, plan):
    plain = {"model.width": None, "model.head_width": None, "model.downsample": None, "J": None}
    outcome = train_py(
        "model=timm",
        "model.name=test_resnet",
        "batch_size=50",
        plan=plan,
        epochs=1,
        **plain,
        precision="fp32",
        **{"optimizer.lr": 0.01, "plan.epochs": 1},
    )
    assert outcome.code == 0, outcome.err
    results = results_of(only_run(tmp_path))
    assert results["model"] == "test_resnet"
    assert len(results["blocks"]) == (1 if plan == "joint" else 5)
    layerwise.load(only_run(tmp_path))
