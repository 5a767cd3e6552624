"""Networks that grow: the agenda, carried heads, the choice of depth, fine-tuning, autoencoders."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

import layerwise
import layerwise.core.errors
from helpers.run_folders import metrics_of, numbers, only_run, results_of
from layerwise.core.files import load_tree
from layerwise.data.factory import describe, load
from layerwise.experiment import stage as stage_run
from layerwise.runs.checkpoints import Checkpoints
from layerwise.runs.finished import valid_depths
from layerwise.training.beginnings import carry_head
from layerwise.training.plan import Agenda, FineTuning, Stage, autoencoder, compressed, greedy

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


def rows(*validation: float) -> list[list[dict]]:
    """What stages report whose validation accuracies are given."""
    return [[{"validation": {"top1": value}}] for value in validation]


def test_without_patience_the_agenda_is_the_plan_whatever_the_scores():
    agenda = Agenda(greedy(4, 5), FineTuning(epochs=2, lr=0.1))
    for finished in ((), rows(1, 0), rows(3, 2, 1, 0)):
        stages = agenda.stages(finished)
        assert [(stage.start, stage.stop) for stage in stages] == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
        assert agenda.depth(finished) == 4


@pytest.mark.parametrize(
    ("scores", "patience", "trained", "best"),
    [
        ((50, 60, 59, 58, 57), 3, 5, 2),  # stops three depths behind the best
        ((50, 60, 60, 60, 60), 3, 5, 2),  # an equal score is no improvement
        ((50, 49), 1, 2, 1),
        ((50, 60, 59, 61, 60, 59), 2, 6, 4),  # patience begins anew at each improvement
        ((10, 20, 30, 40, 50, 60, 70, 80), 1, 8, 8),  # never
    ],
)
def test_patience_stops_where_it_should(scores, patience, trained, best):
    agenda = Agenda(greedy(8, 5), FineTuning(epochs=2), patience)
    for n in range(trained):  # before that it goes on
        assert agenda.stages(rows(*scores[:n]))[n].stop == n + 1
    stages = agenda.stages(rows(*scores[:trained]))
    assert [stage.stop for stage in stages[:-1]] == list(range(1, trained + 1))
    assert (stages[-1].start, stages[-1].stop, stages[-1].index) == (0, best, trained)
    assert agenda.depth(rows(*scores[:trained])) == best


def test_what_fine_tuning_reports_does_not_change_the_choice():
    agenda = Agenda(greedy(8, 5), FineTuning(epochs=2), patience=2)
    finished = rows(50, 60, 59, 58)
    assert agenda.stages([*finished, *rows(99)]) == agenda.stages(finished)
    assert agenda.depth([*finished, *rows(99)]) == 2


@pytest.mark.parametrize(
    "growth",
    [
        autoencoder(3, 5, classifier_epochs=2, carried=True),
        compressed(3, 5, prune_to=[4, 4, 4], prune_epochs=2),
    ],
    ids=["autoencoder", "compressed"],
)
def test_a_depth_is_judged_by_its_last_stage(growth):
    agenda = Agenda(growth, patience=1)
    unjudged = [{"reconstruction": {}}]
    finished = [unjudged, *rows(60), unjudged]
    assert len(agenda.stages(finished)) == 6  # the second depth has no score yet
    assert len(agenda.stages([*finished, *rows(59)])) == 4
    assert agenda.depth([*finished, *rows(59)]) == 1


def test_fine_tuning_an_autoencoder_fits_the_classifier_anew():
    agenda = Agenda(
        autoencoder(2, 5, classifier_epochs=3, carried=True),
        FineTuning(epochs=7, autoencoder_epochs=6, classifier_epochs=3, lr=0.1),
    )
    encode, classify, whole = agenda.stages()[4:]
    assert (encode.target, encode.start, encode.stop, encode.epochs, encode.lr) == ("inputs", 0, 2, 6, 0.1)
    assert (classify.start, classify.stop, classify.restart_head, classify.lr) == (2, 2, True, None)
    assert (whole.target, whole.start, whole.stop, whole.epochs, whole.lr) == ("labels", 0, 2, 7, 0.1)
    assert [stage.index for stage in agenda.stages()] == list(range(7))


def test_only_heads_that_read_unchanged_blocks_are_valid():
    stages = Agenda(greedy(3, 1), FineTuning(epochs=1)).stages()
    assert [valid_depths(stages[:n], "labels") for n in range(5)] == [[], [1], [1, 2], [1, 2, 3], [3]]
    stages = Agenda(autoencoder(2, 1, classifier_epochs=1, carried=True), FineTuning(1, 1, 1)).stages()
    assert [valid_depths(stages[:n], "labels") for n in range(8)] == [[], [], [1], [1], [1, 2], [], [2], [2]]
    assert [valid_depths(stages[:n], "inputs") for n in range(8)] == [[], [1], [1], [1, 2], [1, 2], [2], [2], []]


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


def test_where_the_width_changes_the_head_starts_fresh_and_it_is_said(train_py):
    outcome = train_py(**MLP | {"model.width": None, "J": None}, **{"model.widths": "[8,8,4]", "plan.head": "carried"})
    assert outcome.code == 0
    assert "depth 3: the head of depth 2 has another shape; it starts fresh" in outcome.err
    assert outcome.err.count("has another shape") == 1


def test_frozen_layers_are_unchanged_to_the_bit(train_py, tmp_path, monkeypatch):
    seen = begun_and_ended(monkeypatch)
    assert train_py(**MLP, **{"plan.head": "carried", "J": 3}).code == 0
    net = layerwise.load(only_run(tmp_path))
    for stage in range(3):
        trained = {n.removeprefix("blocks.0."): v for n, v in seen[stage][1].items() if n.startswith("blocks.0.")}
        for name, value in net.blocks[stage].state_dict().items():
            assert torch.equal(value, trained[name])


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


def test_fine_tuning_a_pruned_network_keeps_its_shape(train_py, tmp_path):
    outcome = train_py(**{"plan.prune_to": 4, "plan.prune_epochs": 1, "plan.finetune.epochs": 1})
    assert outcome.code == 0
    assert layerwise.load(only_run(tmp_path)).blocks[0][0].out_channels == 4


def test_a_run_with_patience_takes_the_best_depth(train_py, tmp_path):
    options = MLP | {"J": None, "plan.max_blocks": 6, "plan.patience": 1, "optimizer.lr": 0.1}
    options |= {"epochs": 6, "batch_size": 16, "seed": 1}
    assert train_py(**options).code == 0
    folder = only_run(tmp_path)
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


@pytest.mark.parametrize("saves", [1, 3, 6])
def test_a_run_with_patience_and_fine_tuning_goes_on_to_the_bit(assert_goes_on_to_the_bit, saves):
    """Stopped while it grows, where patience decides, and while it is tuned."""
    options = {"J": None, "plan.max_blocks": 6, "plan.patience": 1, "plan.finetune.epochs": 4, "optimizer.lr": 0.3}
    assert_goes_on_to_the_bit(lambda stage, saved: saved == saves, **MLP | options)


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


def test_a_search_for_the_depth_of_convolutions_drops_what_lies_behind(train_py, tmp_path):
    options = {"J": 3, "model.downsample": "[3]", "dataset.validation": 0.25, "plan.search_fraction": 0.5}
    assert train_py(**options, batch_size=32, **{"plan.patience": 1}).code == 0
    results = results_of(only_run(tmp_path))
    assert results["J"] == results["search"]["block"]
    assert layerwise.load(only_run(tmp_path)).spec.name == "digits"


def test_an_autoencoder_of_convolutions_reconstructs_and_classifies(train_py, tmp_path):
    options = {"plan": "autoencoder", "J": 2, "epochs": 8, "optimizer": "adam", "optimizer.lr": 0.01}
    assert train_py("plan.finetune.autoencoder_epochs=2", "plan.finetune.epochs=2", **options).code == 0
    folder = only_run(tmp_path)
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


def test_what_an_autoencoder_reports_is_what_its_decoder_does(train_py, tmp_path):
    assert train_py(plan="autoencoder", **MLP | {"dataset.validation": None, "dataset.augment": "false"}).code == 0
    folder = only_run(tmp_path)
    net = layerwise.load(folder)
    test = load(describe("digits", Path()), Path(), torch.device("cpu"), limit_test=100).splits["test"]
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


def test_a_cached_autoencoder_equals_a_recomputed_one(train_py, tmp_path):
    """With augmentation: the decoder's target is the very view that the features were computed from."""
    options = {"plan": "autoencoder", "J": 3, "precision": "fp32", "model.downsample": "[2]"}
    for cache in ("memory", "none", "disk"):
        assert train_py(name=cache, cache=cache, **options).code == 0
    found = [numbers(results_of(tmp_path / "out" / cache)) for cache in ("memory", "none", "disk")]
    assert found[0] == found[1] == found[2]


def test_labelled_data_are_for_the_classifier_and_all_inputs_for_the_encoder(train_py, tmp_path):
    options = {**MLP, "plan": "autoencoder", "dataset.labelled": 0.25, "batch_size": 10, "dataset.validation": None}
    assert train_py(**options).code == 0
    lines = metrics_of(only_run(tmp_path))
    assert [line["step"] for line in lines[:4]] == [20, 40, 45, 50]  # 200 inputs, 50 labels


def test_training_scores_are_those_of_the_trained_network_on_clean_images(train_py, tmp_path):
    for cache in ("memory", "none"):
        assert train_py(name=cache, cache=cache, precision="fp32", **{"evaluation.train": "true"}).code == 0
    results = [results_of(tmp_path / "out" / cache) for cache in ("memory", "none")]
    assert numbers(results[0]) == numbers(results[1])
    net = layerwise.load(tmp_path / "out" / "none")
    train = load(describe("digits", Path()), Path(), torch.device("cpu"), limit_train=200).splits["train"]
    x = net.normalise(train.values.permute(0, 3, 1, 2))
    for row in results[1]["blocks"]:
        with torch.no_grad():
            correct = (net(x, row["block"]).argmax(1) == train.labels).sum().item()
        assert row["train"]["top1"] == pytest.approx(100 * correct / 200)


def test_a_stage_in_training_keeps_its_finished_file_apart(train_py, tmp_path):
    """Fine-tuning after an early stop takes the number of a depth that was never trained."""
    options = MLP | {
        "J": None,
        "plan.max_blocks": 6,
        "plan.patience": 1,
        "plan.finetune.epochs": 1,
        "optimizer.lr": 0.3,
    }
    assert train_py(**options).code == 0
    results = results_of(only_run(tmp_path))
    last = load_tree(only_run(tmp_path) / "checkpoints" / f"stage_{len(results['stages'])}.safetensors")
    assert last["rows"][0]["block"] == results["final"]["block"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"plan.patience": 2}, "plan.patience=2 needs validation samples to choose the depth: dataset.validation"),
        ({"plan.search_fraction": 0.2}, "plan.search_fraction=0.2 needs validation samples to choose the depth"),
        ({"plan.search_fraction": 1.5}, "must be more than 0 and less than 1"),
        ({"plan.patience": 0}, "plan.patience=0: must be 1 or more"),
        ({"plan.max_blocks": 7}, "plan.max_blocks=7 conflicts with J=2"),
        ({"plan.head": "carry"}, "plan.head"),
        ({"plan.finetune.lr": 0}, "plan.finetune.lr=0.0: must be more than 0"),
        (
            {"plan.patience": 1, "model.final_head_width": 4, "dataset.validation": 0.2},
            "cannot be combined with model.final_head_width",
        ),
        ({"plan.finetune.autoencoder_epochs": 1}, "unknown key 'plan.finetune.autoencoder_epochs'"),
        ({"plan": "joint", "plan.patience": 1}, "unknown key 'plan.patience'"),
        ({"model": "mlp", "model.width": 4, "model.widths": "[4,4]"}, "conflicts with model.widths=[4, 4]"),
        ({"model": "mlp", "model.width": None, "model.widths": "[4,0]"}, "must be a list of widths, 1 or more each"),
        (
            {"model": "mlp", "model.width": None, "model.widths": "[4,4,4]"},
            "J=2 conflicts with model.widths=[4, 4, 4] of 3 block(s)",
        ),
        ({"objective.reconstruction": "cross_entropy"}, "Use binary_cross_entropy"),
        ({"plan": "autoencoder", "objective.reconstruction": "binary_cross_entropy"}, "dataset.standardise=false"),
        ({"plan.finetune.lr": 0.1}, "it needs plan.finetune.epochs"),
        ({"plan.finetune": 10}, "such as plan.finetune.epochs=10"),
        ({"plan": "joint", "+plan.head": "carried"}, "Use plan.head=fresh"),
        ({"plan.prune_to": 4, "plan.head": "carried"}, "cannot be combined with"),
        ({"dataset.fold": 2}, "it needs dataset.folds"),
        (
            {"plan.search_fraction": 0.5, "dataset.validation": 0.2, "plan.reuse": "x"},
            "cannot be combined with plan.search_fraction",
        ),
        (
            {"plan.search_fraction": 0.2, "dataset.validation": 0.2},
            "in the search for the depth (plan.search_fraction): batch_size=64: there are only 40",
        ),
        (
            {"plan.search_fraction": 0.5, "dataset.validation": 0.2, "dataset.limit": 100000},
            "error: dataset.limit=100000: there are only",
        ),
        ({"objective.loss": "squared_error", "objective.label_smoothing": 0.1}, "is for cross-entropies"),
        ({"objective.loss": "hinge"}, "objective.loss"),
        ({"objective.l1": -1}, "objective.l1=-1.0: must be 0 or more"),
        ({"optimizer": "timm"}, "optimizer=timm: choose one with optimizer.name"),
        ({"optimizer": "timm", "optimizer.name": "lmab"}, "Did you mean 'lamb'?"),
        ({"dataset": "blobs"}, "Use model=mlp"),
        ({"dataset.labelled": 0}, "must be more than 0 and at most 1"),
        ({"plan": "autoencoder", "dataset.labelled": 0.1}, "there are only 20 labelled training samples"),
    ],
    ids=str,
)
def test_bad_combinations_are_refused(train_py, overrides, message):
    if overrides.get("model") == "mlp":
        overrides = {"model.head_width": None, "model.downsample": None, **overrides}
    outcome = train_py(**overrides)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_stage_has_a_title():
    assert Stage(0, 0, 1, (1,), 1, target="inputs").title == "autoencoder 1"
    assert Stage(0, 0, 3, (3,), 1, target="inputs").title == "autoencoder 1–3"
    assert Stage(0, 0, 3, (3,), 1).title == "blocks 1–3"


def test_fine_tuning_changes_no_mark_of_improvement(train_py, tmp_path):
    """The marks say what growing went on by."""
    options = MLP | {"J": 4, "plan.finetune.epochs": 8, "plan.finetune.lr": 0.1, "optimizer.lr": 0.3}
    assert train_py(**options).code == 0
    results = results_of(only_run(tmp_path))
    grown = [stage["validation"]["top1"] for stage in results["stages"][:4]]
    assert results["blocks"][3]["validation"]["top1"] != grown[3], "fine-tuning is to change something here"
    expected = [all(score > earlier for earlier in grown[:i]) for i, score in enumerate(grown)]
    assert [row["improved"] for row in results["blocks"]] == expected


def test_fine_tuning_for_long_asks_for_no_more_views(train_py, tmp_path):
    """It reads the images, which need no store; a cache that holds a view for each epoch of the blocks is exact."""
    assert train_py(**{"plan.finetune.epochs": 9}).code == 0
    assert results_of(only_run(tmp_path))["cache"]["views"] == 2


def test_a_search_uses_no_labels_that_the_run_may_not_use():
    """The labelled samples of a limited set are among those of the whole one."""
    spec, cpu = describe("blobs", Path()), torch.device("cpu")
    options = {"validation": 0.1, "labelled": 0.3, "standardise": False}
    whole, part = (load(spec, Path(), cpu, limit_train=limit, **options) for limit in (None, 225))
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
def test_each_row_counts_the_parameters_of_its_own_blocks(train_py, tmp_path, options):
    assert train_py(**options).code == 0
    results, net = results_of(only_run(tmp_path)), layerwise.load(only_run(tmp_path))
    sizes = [sum(p.numel() for p in block.parameters()) for block in net.blocks]
    assert [row["parameters"]["block"] for row in results["blocks"]] == sizes
    assert results["final"]["parameters"] == sum(sizes) + results["blocks"][-1]["parameters"]["head"]


def test_what_is_no_longer_so_stands_in_before(train_py, tmp_path):
    options = {"plan": "autoencoder", "plan.finetune.epochs": 2, "plan.finetune.autoencoder_epochs": 2, "epochs": 4}
    assert train_py(**options).code == 0
    results = results_of(only_run(tmp_path))
    grown, judged, *_, tuned = results["stages"][2:]
    row = results["blocks"][1]
    assert row["test"] == tuned["test"]
    assert "reconstruction" not in row  # the decoder does not fit the blocks any more
    assert row["before"]["reconstruction"] == grown["reconstruction"]  # as the encoder had grown
    assert row["before"]["test"] == judged["test"]
    assert "reconstruction" in results["blocks"][0]


def test_a_fresh_run_clears_what_was_there_before_it_searches(train_py, tmp_path):
    options = {**MLP, "J": 3, "plan.search_fraction": 0.5, "batch_size": 32}
    assert train_py(name="run", **options).code == 0
    folder = tmp_path / "out" / "run"
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


def test_stages_of_one_depth_do_not_go_on_under_another(train_py, tmp_path):
    options = {**MLP, "J": 3, "plan.search_fraction": 0.5, "batch_size": 32}
    assert train_py(name="run", **options).code == 0
    results = results_of(tmp_path / "out" / "run")
    results |= {"status": "interrupted", "search": {**results["search"], "block": 7}}
    (tmp_path / "out" / "run" / "results.json").write_text(json.dumps(results))
    outcome = train_py(name="run", **options)
    assert outcome.code == 2
    assert "depth 7 was begun. Start over with fresh=true" in outcome.err


def test_a_longer_perceptron_takes_over_the_stages_of_a_shorter_one(train_py, tmp_path):
    assert train_py(name="short", **MLP, J=3).code == 0
    words = {**MLP, "J": 5, "plan.reuse": tmp_path / "out" / "short"}
    outcome = train_py(name="long", **words)
    assert outcome.code == 0
    assert "2 of 5 stages are taken" in outcome.err
    assert train_py(name="whole", **MLP, J=5).code == 0
    long, whole = (results_of(tmp_path / "out" / name) for name in ("long", "whole"))
    assert [row["test"] for row in long["blocks"]] == [row["test"] for row in whole["blocks"]]
