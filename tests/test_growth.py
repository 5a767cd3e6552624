"""Networks that grow: the agenda, carried heads, the choice of depth, fine-tuning, autoencoders."""

from __future__ import annotations

import os
import signal

import pytest
import torch

import layerwise
import layerwise.core.errors
from helpers.commands import assert_refused
from helpers.run_folders import metrics_of, numbers, only_run, results_of, rewrite_results
from layerwise.data.factory import load
from layerwise.data.toy import Blobs, Digits
from layerwise.experiment import stage as stage_run
from layerwise.runs.checkpoints import Checkpoints
from layerwise.training.beginnings import carry_head

MLP = {
    "model": "mlp",
    "k": 1,
    "model.width": 16,
    "model.head_width": None,
    "model.downsample": None,
    "dataset.validation": 0.25,
    "precision": "fp32",
    "optimizer.lr": 0.05,
}
"""A perceptron on few digits, in place of the tiny SimCNN."""


def test_a_head_is_carried_only_where_the_shapes_agree():
    readers = torch.nn.ModuleDict({"1": torch.nn.Linear(3, 2), "2": torch.nn.Linear(3, 2), "3": torch.nn.Linear(4, 2)})
    before = readers["3"].weight.clone()
    assert carry_head(readers, 1, 2)
    assert torch.equal(readers["1"].weight, readers["2"].weight)
    assert readers["1"].weight is not readers["2"].weight
    assert not carry_head(readers, 2, 3)
    assert torch.equal(readers["3"].weight, before)


def begun_and_ended(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[dict[str, torch.Tensor]]]:
    """Records the weights of each stage's segment before its first step and at its end."""
    seen: dict[int, list[dict[str, torch.Tensor]]] = {}
    original = stage_run.set_beginning

    def spy(run, stage, source):
        original(run, stage, source)
        seen[stage.index] = [copied(stage_run.segment_of(run.network, stage))]

    monkeypatch.setattr(stage_run, "set_beginning", spy)
    save = Checkpoints.save_finished

    def saving(self, stage, tree):
        seen[stage.index].append({name: value.clone() for name, value in tree["segment"].items()})
        save(self, stage, tree)

    monkeypatch.setattr(Checkpoints, "save_finished", saving)
    return seen


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def head_of(state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [value for name, value in state.items() if name.startswith("heads.")]


@pytest.mark.parametrize("model", ["mlp", "simcnn"])
def test_the_carried_head_starts_where_it_ended_and_a_fresh_one_does_not(train_py, monkeypatch, model):
    options = MLP if model == "mlp" else {"model.downsample": "[]"}
    for head, carried in (("carried", True), ("fresh", False)):
        with monkeypatch.context() as patch:
            seen = begun_and_ended(patch)
            assert train_py(name=head, **options, **{"plan.head": head, "J": 3}).code == 0
        for stage in (1, 2):
            ended, begun = head_of(seen[stage - 1][1]), head_of(seen[stage][0])
            assert all(torch.equal(a, b) for a, b in zip(ended, begun, strict=True)) == carried
            assert not any(torch.equal(a, b) for a, b in zip(begun, head_of(seen[stage][1]), strict=True))


@pytest.mark.parametrize("plan", ["greedy", "autoencoder"])
def test_a_frozen_head_is_the_first_one_and_the_rest_is_trained(train_py, monkeypatch, plan):
    seen = begun_and_ended(monkeypatch)
    options = {**MLP, "model.batch_norm": "true", "k": 2, "plan": plan, "plan.head": "frozen", "J": 3}
    assert train_py(**options, **{"plan.finetune.epochs": 1}).code == 0
    stages = range(0, 6, 2) if plan == "autoencoder" else range(3)  # behind each encoder a classifier, which is fresh
    first, *frozen = [seen[stage] for stage in stages]
    assert not torch.equal(head_of(first[0])[0], head_of(first[1])[0])
    for begun, ended in frozen:
        for state in (begun, ended):  # with the statistics of its batch norms
            assert all(torch.equal(a, b) for a, b in zip(head_of(first[1]), head_of(state), strict=True))
        blocks = [name for name in begun if name.startswith("blocks.")]
        assert not any(torch.equal(begun[name], ended[name]) for name in blocks)
    before, after = seen[max(seen)]
    assert not any(torch.equal(a, b) for a, b in zip(head_of(before), head_of(after), strict=True))  # fine-tuning


def test_a_head_of_another_shape_is_trained_where_it_would_be_frozen(train_py, monkeypatch):
    seen = begun_and_ended(monkeypatch)
    options = {**MLP, "model.width": None, "model.widths": "[16,8]", "plan.head": "frozen", "J": None}
    outcome = train_py(**options)
    assert "depth 2: the head of depth 1 has another shape; it starts fresh" in outcome.err
    assert not torch.equal(*(head_of(state)[0] for state in seen[1]))


def test_fine_tuning_changes_all_layers_at_its_own_learning_rate(train_py, tmp_path, monkeypatch):
    seen = begun_and_ended(monkeypatch)
    assert train_py(**MLP, **{"plan.finetune.epochs": 2, "J": 3}).code == 0
    before, after = seen[3]
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []
    folder = only_run(tmp_path)
    lines = metrics_of(folder)
    assert [line["lr"] for line in lines if line["stage"] == 4] == pytest.approx([0.001, 0.0002])  # of 0.005, decayed
    results = results_of(folder)
    assert [row["block"] for row in results["blocks"]] == [1, 2, 3]
    assert results["blocks"][2]["before"]["test"] == results["stages"][2]["test"]
    assert results["final"]["test_top1"] == results["stages"][3]["test"]["top1"]
    assert results["blocks"][2]["ensemble"]["top1"] == results["blocks"][2]["test"]["top1"]  # of the tuned head alone
    net = layerwise.load(folder)
    assert net.depths == (3,)  # the heads before read blocks that are no more


def test_a_run_with_patience_takes_the_best_depth(train_py, trained):
    options = MLP | {"J": None, "plan.max_blocks": 6, "plan.patience": 1, "optimizer.lr": 0.1}
    options |= {"epochs": 6, "batch_size": 16, "seed": 1}
    folder = trained(**options)
    results = results_of(folder)
    scores = [row["validation"]["top1"] for row in results["blocks"]]
    best = scores.index(max(scores)) + 1
    assert 1 < best < 5, "the point of this setting is that patience ends it, and the best depth is not the first"
    assert len(scores) == best + 1
    assert results["final"]["block"] == best
    assert results["final"]["test_top1"] == results["blocks"][best - 1]["test"]["top1"]
    assert [row["improved"] for row in results["blocks"]] == [i < best for i in range(len(scores))]
    net = layerwise.load(folder)
    assert len(net.blocks) == best
    assert results["final"]["parameters"] == sum(
        p.numel() for p in [*net.blocks.parameters(), *net.head(best).parameters()]
    )
    again = train_py(**options)
    assert "finished" in again.err
    assert f"the result is the network of depth {best}" in again.out


def test_a_search_on_a_part_of_the_data_fixes_the_depth_of_the_run(train_py, tmp_path):
    options = {**MLP, "J": 4, "plan.search_fraction": 0.5, "optimizer.lr": 0.3, "batch_size": 32}
    outcome = train_py(name="searched", **options)
    assert outcome.code == 0
    folder = tmp_path / "out" / "searched"
    assert f"the search chose depth {results_of(folder)['J']}" in outcome.err
    results, search = results_of(folder), results_of(folder / "search")
    scores = [row["validation"]["top1"] for row in search["blocks"]]
    best = scores.index(max(scores)) + 1
    assert results["search"] == {
        "fraction": 0.5,
        "block": best,
        "validation": scores,
        "seconds": search["seconds"],
        "pflop": search["pflop"],
    }
    assert (results["J"], len(results["blocks"]), results["final"]["block"]) == (best, best, best)
    lines = metrics_of(folder)
    assert lines[0]["step"] == -(-200 // 32)  # an epoch has all 200 images again
    # the same depth without a search gives the same numbers
    plain = {key: value for key, value in options.items() if key != "plan.search_fraction"} | {"J": best}
    assert train_py(name="plain", **plain).code == 0
    assert numbers(results) == numbers(results_of(tmp_path / "out" / "plain"))
    assert len(layerwise.load(folder).blocks) == best
    assert "finished" in train_py(name="searched", **options).err
    assert train_py(name="searched", fresh="true", **options).code == 0
    assert numbers(results_of(folder)) == numbers(results)


def test_an_autoencoder_of_convolutions_reconstructs_and_classifies(trained):
    options = {"plan": "autoencoder", "J": 2, "epochs": 8, "optimizer": "adam", "optimizer.lr": 0.01}
    folder = trained("plan.finetune.autoencoder_epochs=2", "plan.finetune.epochs=2", **options)
    results = results_of(folder)
    assert [stage["title"] for stage in results["stages"]] == [
        *("autoencoder 1", "head 1", "autoencoder 2", "head 2"),
        *("autoencoder 1–2", "head 2", "blocks 1–2"),
    ]
    errors = [stage["reconstruction"]["test"]["loss"] for stage in results["stages"] if stage["target"] == "inputs"]
    assert errors[0] < 0.7  # of inputs with variance 1
    assert errors[2] < errors[1]  # all weights together do better
    net = layerwise.load(folder)
    assert (net.depths, list(net.decoders)) == ((2,), [])  # both fit the blocks as they are now, or are left out
    grown, judged, *_, tuned = results["stages"][2:]
    first, row = results["blocks"]
    assert row["test"] == tuned["test"]
    assert row["before"] | {"reconstruction": grown["reconstruction"], "test": judged["test"]} == row["before"]
    assert ["reconstruction" in block for block in (first, row)] == [True, False]


def test_what_an_autoencoder_reports_is_what_its_decoder_does(trained):
    folder = trained(plan="autoencoder", **MLP | {"dataset.validation": None, "dataset.augment": "false"})
    net = layerwise.load(folder)
    test = load(Digits(), torch.device("cpu"), limit_test=100).splits["test"]
    x = net.normalise(test.values.permute(0, 3, 1, 2))
    for row in results_of(folder)["blocks"]:
        with torch.no_grad():
            error = (net.reconstruct(x, row["block"]) - x).square().mean().item()
        assert row["reconstruction"]["test"]["loss"] == pytest.approx(error, rel=1e-5)
    with pytest.raises(ValueError, match="no decoder at depth 3"):
        net.reconstruct(x, 3)


def test_restarting_the_head_gives_its_initialisation(train_py, monkeypatch):
    seen = begun_and_ended(monkeypatch)
    options = {**MLP, "plan": "autoencoder", "J": 1, "plan.finetune.autoencoder_epochs": 1}
    assert train_py(**options).code == 0
    first, again = head_of(seen[1][0]), head_of(seen[3][0])
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(head_of(seen[1][1])[0], first[0])


def test_a_cached_autoencoder_equals_a_recomputed_one(trained):
    """With augmentation: the decoder's target is the very view that the features were computed from."""
    options = {"plan": "autoencoder", "J": 3, "precision": "fp32", "model.downsample": "[2]"}
    folders = [trained(name=cache, cache=cache, **options) for cache in ("memory", "none", "disk")]
    found = [numbers(results_of(folder)) for folder in folders]
    assert found[0] == found[1] == found[2]


def test_fine_tuning_changes_no_mark_of_improvement(trained):
    """The marks say what growing went on by."""
    options = MLP | {"J": 4, "plan.finetune.epochs": 8, "plan.finetune.lr": 0.1, "optimizer.lr": 0.3}
    results = results_of(trained(**options))
    grown = [stage["validation"]["top1"] for stage in results["stages"][:4]]
    assert results["blocks"][3]["validation"]["top1"] != grown[3], "fine-tuning is to change something here"
    expected = [all(score > earlier for earlier in grown[:i]) for i, score in enumerate(grown)]
    assert [row["improved"] for row in results["blocks"]] == expected


def test_the_training_loss_of_each_depth_is_compared_with_the_best_so_far(train_py, tmp_path):
    outcome = train_py(**MLP | {"J": 5, "epochs": 1, "optimizer.lr": 0.3})
    rows = results_of(only_run(tmp_path))["blocks"]
    losses = [row["train"]["loss"] for row in rows]
    expected = [all(loss < earlier for earlier in losses[:i]) for i, loss in enumerate(losses)]
    assert [row["improved_loss"] for row in rows] == expected
    worse = ", ".join(str(i) for i, better in enumerate(expected, 1) if not better)
    assert worse, "the point of this setting is that some depth does not improve"
    assert f"no better training loss than before at depth {worse}" in outcome.out


def test_fine_tuning_for_long_asks_for_no_more_views(train_py, tmp_path):
    """It reads the images, which need no store; a cache that holds a view for each epoch of the blocks is exact."""
    assert train_py(**{"plan.finetune.epochs": 9}).code == 0
    assert results_of(only_run(tmp_path))["cache"]["views"] == 2


def test_a_search_uses_no_labels_that_the_run_may_not_use():
    """The labelled samples of a limited set are among those of the whole one."""
    cpu = torch.device("cpu")
    options = {"validation": 0.1, "labelled": 0.3, "standardise": False}
    whole, part = (load(Blobs(), cpu, limit_train=limit, **options) for limit in (None, 225))
    with_label = [set(data.splits["train"].samples[: data.having("labels")].tolist()) for data in (whole, part)]
    assert with_label[1] < with_label[0]
    assert (len(with_label[0]), len(with_label[1]), len(part.splits["train"])) == (135, 68, 225)


@pytest.mark.parametrize(
    "options",
    [
        MLP | {"plan": "autoencoder"},
        MLP | {"plan": "autoencoder", "plan.finetune.epochs": 1, "plan.finetune.autoencoder_epochs": 1},
        {"plan.prune_to": 4, "plan.prune_epochs": 1, "plan.finetune.epochs": 1},
        MLP | {"plan.finetune.epochs": 1},
        {"plan": "simultaneous", "plan.finetune.epochs": 1},
    ],
    ids=str,
)
def test_each_row_counts_the_parameters_of_its_own_blocks(trained, options):
    folder = trained(**options)
    results, net = results_of(folder), layerwise.load(folder)
    sizes = [sum(p.numel() for p in block.parameters()) for block in net.blocks]
    assert "plan.prune_to" not in options or net.blocks[0][0].out_channels == 4
    assert [row["parameters"]["block"] for row in results["blocks"]] == sizes
    assert results["final"]["parameters"] == sum(sizes) + results["blocks"][-1]["parameters"]["head"]


def test_a_fresh_run_clears_what_was_there_before_it_searches(train_py, trained):
    options = {**MLP, "J": 3, "plan.search_fraction": 0.5, "batch_size": 32}
    folder = trained(name="run", **options)
    original = Checkpoints.save_finished

    def stop_in_the_search(self, stage, tree):
        original(self, stage, tree)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save_finished", stop_in_the_search)
        assert train_py(name="run", fresh="true", **options).code == 143
    assert not list((folder / "checkpoints").glob("*"))
    assert not (folder / "results.json").exists()
    with pytest.raises(layerwise.core.errors.LayerwiseError, match="search for the depth is not finished yet"):
        layerwise.load(folder)
    assert train_py(name="run", **options).code == 0


def test_stages_of_one_depth_do_not_go_on_under_another(train_py, trained):
    options = {**MLP, "J": 3, "plan.search_fraction": 0.5, "batch_size": 32}
    folder = trained(name="run", **options)
    results = results_of(folder)
    results |= {"status": "interrupted", "search": {**results["search"], "block": 7}}
    rewrite_results(folder, results)
    assert_refused(train_py(name="run", **options), "depth 7 was begun. Start over with fresh=true")
