"""Runs whose blocks begin with the weights of another run, or of timm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch

import layerwise
from helpers.commands import assert_refused, run_script
from helpers.run_folders import corrupt, numbers, results_of
from layerwise.config.parse import from_yaml
from layerwise.core.errors import LayerwiseError

OTHER_DATA = {"dataset.limit": 150, "batch_size": 50, "seed": 3}
TIMM = {
    "model": "timm",
    "model.name": "test_resnet",
    "model.pretrained": "timm",
    "J": None,
    "epochs": 1,
    **dict.fromkeys(["model.width", "model.head_width", "model.downsample"]),
}


def state_of(network, j: int) -> dict[str, torch.Tensor]:
    return network.blocks[j - 1].state_dict()


def equal(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def source(trained) -> Path:
    return trained(name="source", precision="fp32")


@pytest.mark.parametrize("plan", ["greedy", "joint", "simultaneous"])
def test_frozen_blocks_stay_those_of_the_other_run(trained, source, plan):
    folder = trained(plan=plan, J=3, **OTHER_DATA, **{"model.pretrained": source, "plan.frozen_blocks": 2})
    theirs, mine = layerwise.load(source), layerwise.load(folder)
    assert all(equal(state_of(theirs, j), state_of(mine, j)) for j in (1, 2))
    rows = results_of(folder)["blocks"]
    assert [row["block"] for row in rows] == {"greedy": [1, 2, 3], "joint": [3], "simultaneous": [2, 3]}[plan]
    if plan == "greedy":  # heads alone are trained there, as afresh as without
        assert not equal(theirs.head(1).state_dict(), mine.head(1).state_dict())


def test_finetuned_blocks_begin_there_and_move(trained, source):
    runs = [trained(**OTHER_DATA, **{"optimizer.lr": 1e-6, "model.pretrained": begins}) for begins in (source, "null")]
    theirs = layerwise.load(source)
    for j in (1, 2):
        weights = [next(network.blocks[j - 1].parameters()) for network in (theirs, *map(layerwise.load, runs))]
        distances = [(mine - weights[0]).abs().max() for mine in weights[1:]]
        assert 0 < distances[0] < 1e-4 < distances[1]


def test_finetuning_all_blocks_after_training_the_heads_of_frozen_ones(trained, source):
    options = {"model.pretrained": source, "plan.frozen_blocks": 2, "plan.finetune.epochs": 1}
    row = results_of(trained(**OTHER_DATA, **options))["blocks"][-1]
    assert row["before"]["test"] != row["test"]


def test_data_of_another_size_and_a_shorter_network(trained, source):
    other = {"model": "mlp", "k": 1, **dict.fromkeys(["model.head_width", "model.downsample"])}
    digits = trained(name="digits", J=3, **other)
    with pytest.raises(AssertionError, match=r"block 1 is another one there .*in_features=64.*in_features=2"):
        trained(dataset="blobs", **other, **{"model.pretrained": digits})
    folder = trained(name="short", J=1, **other, **{"model.pretrained": digits, "plan.frozen_blocks": 1})
    assert equal(state_of(layerwise.load(digits), 1), state_of(layerwise.load(folder), 1))


def test_other_blocks_are_refused_by_the_layer_that_differs(train_py, source):
    outcome = train_py(**{"model.pretrained": source, "model.activation": "tanh"})
    assert_refused(outcome, f"model.pretrained={source}: block 1 is another one", "ReLU", "Tanh")
    assert_refused(train_py(J=3, **{"model.pretrained": source, "plan.frozen_blocks": 3}), "has 2 block(s)")


def test_a_run_goes_on_and_loads_without_its_source(assert_goes_on_to_the_bit, source, train_py):
    def stop(stage: int, saves: int) -> bool:
        if (stage, saves) == (3, 5):
            shutil.rmtree(source)
            return True
        return False

    options = {"J": 3, "model.pretrained": str(source), "plan.frozen_blocks": 1}
    folder = assert_goes_on_to_the_bit(stop, **options)
    assert layerwise.load(folder).depths == (1, 2, 3)
    corrupt(folder / "checkpoints" / "pretrained.safetensors", "truncated")
    with pytest.raises(LayerwiseError, match=r"pretrained.safetensors is truncated .*Delete it"):
        layerwise.load(folder)


def test_a_finished_run_without_what_it_began_with_copies_it_again(train_py, tmp_path, source):
    options = {"name": "mine", "model.pretrained": str(source), "plan.frozen_blocks": 1}
    assert train_py(**options).code == 0
    (tmp_path / "out" / "mine" / "checkpoints" / "pretrained.safetensors").unlink()
    with pytest.raises(LayerwiseError, match="Run the command of this run again"):
        layerwise.load(tmp_path / "out" / "mine")
    assert train_py(**options).code == 0
    assert layerwise.load(tmp_path / "out" / "mine").depths == (1, 2)


def test_a_wrong_source_does_not_cost_the_old_run(train_py, trained, source):
    before = numbers(results_of(source))
    assert_refused(train_py(name="source", fresh="true", **{"model.pretrained": source}), "the folder of this run")
    assert numbers(results_of(source)) == before


@pytest.fixture
def offered(monkeypatch) -> timm.models.resnet.ResNet:
    """What timm would download."""
    network = timm.create_model("test_resnet")
    state = network.state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: dict(state))
    return network


@pytest.mark.parametrize("plan", ["greedy", "joint"])
def test_the_weights_that_timm_offers(trained, offered, plan):
    folder = trained(plan=plan, **TIMM, **{"plan.frozen_blocks": 1, "optimizer.lr": 1e-3, "precision": "fp32"})
    first = next(layerwise.load(folder).blocks[0].parameters())
    torch.testing.assert_close(first, offered.conv1[0].weight.sum(1, keepdim=True))  # the images have one channel


def test_a_download_that_fails_is_said(train_py, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    assert_refused(train_py(**TIMM), "the weights of test_resnet cannot be downloaded (no route)")
    assert_refused(
        train_py(**TIMM | {"model.name": "mobilenetv2_035"}), "timm has no weights for model.name=mobilenetv2_035"
    )


def test_the_script_measures_transfer_with_the_blocks_of_its_first_run(tmp_path):
    small = ["dataset=digits", "dataset.limit=150", "dataset.limit_test=100", "epochs=1", "batch_size=50"]
    more = ["model.downsample=[2]", "model.width=4", "model.head_width=4"]
    places = ["--output-dir", str(tmp_path / "out"), "--results", str(tmp_path), "--seeds", "0"]
    outcome = run_script("transfer", *more, "--target", *small, "--source", *small, "optimizer.lr=0.02", *places)
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "transfer.json").read_text())
    finals = {way: runs[0]["final"] for way, runs in record["runs"].items()}
    assert list(finals) == ["scratch", "frozen", "tuned"]
    configs = {folder: from_yaml(folder / "config.yaml") for folder in (tmp_path / "out").iterdir()}
    (frozen,) = (folder for folder, config in configs.items() if config.plan.frozen_blocks == 3)
    source = Path(configs[frozen].model.pretrained)
    assert configs[source].optimizer.lr == 0.02
    assert equal(state_of(layerwise.load(source), 3), state_of(layerwise.load(frozen), 3))
    assert f"| scratch |  | {finals['scratch']['test_top1']:.2f} |" in (tmp_path / "transfer.md").read_text()
