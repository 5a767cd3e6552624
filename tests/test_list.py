"""layerwise list."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import layerwise
from helpers.configs import configured
from helpers.run_folders import results_of
from layerwise.__main__ import main
from layerwise.commands import list as listing
from layerwise.commands.conf_files import choices
from layerwise.config import build
from layerwise.config.heads import HEADS, HeadKind, describe_head
from layerwise.config.parse import from_yaml
from layerwise.config.resolve import resolve
from layerwise.core.errors import LayerwiseError
from layerwise.training.choices import LOSSES, LossKind

VALUES = {
    "models": choices("model"),
    "heads": [*HEADS, "own"],
    "datasets": choices("dataset"),
    "plans": choices("plan"),
    "objectives": [*LOSSES, "own"],
}


@pytest.mark.parametrize("what", list(VALUES))
def test_every_choice_is_listed_once_with_a_line(what):
    entries = listing.LISTS[what][1]()
    assert sorted(name for name, _, _ in entries) == sorted(VALUES[what])
    assert all(line.strip() for _, _, line in entries)


def test_keys_are_those_of_the_choice():
    entries = {what: {name: keys for name, keys, _ in make()} for what, (_, make) in listing.LISTS.items()}
    assert set(entries["heads"]["pooled"]) == {"head_width", "head_widths", "final_head_width", "head_scale"}
    assert entries["heads"]["predsim"] == []
    assert {"pool", "pool_overlap"} <= set(entries["heads"]["cnn"])
    assert "depth" in entries["models"]["vgg"]
    assert "name" in entries["models"]["timm"]
    assert "name" not in entries["datasets"]["digits"]
    assert "patience" in entries["plans"]["greedy"]
    assert "path" in entries["datasets"]["table"]
    assert "single_logit" in entries["objectives"]["cross_entropy"]


def test_the_command_prints_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main(["list", "plans"])
    text = capsys.readouterr().out
    assert "plan=" in text
    assert "simultaneous" in text
    assert "blocks_per_stage" in text


def test_another_word_is_refused():
    with pytest.raises(LayerwiseError, match="models"):
        listing.main(["networks"])


@dataclass(frozen=True)
class GapHead:
    """A new head."""

    k: int
    batch_norm: bool = True

    def build(self, shape, classes):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], classes))


@pytest.mark.parametrize("network", [["model=resnet_cifar", "J=2"], ["model=simcnn", "J=2"]], ids=str)
def test_an_entry_makes_a_head(monkeypatch, network):
    monkeypatch.setitem(HEADS, "gap", HeadKind("Global average.", "heads:GapHead", regression=False))
    monkeypatch.setattr("layerwise.models.heads.GapHead", GapHead, raising=False)
    config = configured("dataset=digits", "model.head=gap", "k=1", *network)
    built = build.build_network(config, build.build_spec(config), build.build_agenda(config).stages())
    assert [type(layer) for layer in built.head(1)] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]
    asked = describe_head(config.model, k=5)
    assert (asked.k, asked.batch_norm) == (5, network[0] == "model=resnet_cifar")  # with k=1 simcnn has none
    assert listing.heads()[-2] == ("gap", [], "Global average.")
    monkeypatch.setitem(HEADS, "gap", HeadKind("Global average.", "heads:GapHead", networks=("mlp",)))
    with pytest.raises(LayerwiseError, match=r"does not support model\.head=gap. Use cnn, mlp_sr, "):
        configured("model.head=gap", *network)


def test_an_entry_makes_a_loss_that_trains_and_scores(monkeypatch, trained):
    monkeypatch.setitem(LOSSES, "huber", LossKind("Huber's.", "torch.nn.functional.huber_loss"))
    folder = trained(**{"objective.loss": "huber", "epochs": 1})
    network, config = layerwise.load(folder), resolve(from_yaml(folder / "config.yaml"))
    test = build.build_data(config, build.build_spec(config), torch.device("cpu"))
    (batch,) = test.batches("test", torch.arange(100), 100)
    wanted = F.one_hot(batch.targets, 10).float()
    for row in results_of(folder)["blocks"]:
        with torch.no_grad():
            expected = F.huber_loss(network(batch.inputs, row["block"]), wanted)
        assert row["test"]["loss"] == pytest.approx(expected.item(), rel=1e-3)
    with pytest.raises(LayerwiseError, match=r"objective\.label_smoothing .* objective\.loss=huber"):
        configured("objective.loss=huber", "objective.label_smoothing=0.1")
