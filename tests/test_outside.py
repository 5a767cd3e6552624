"""Parts of other packages: named by `_target_`, checked, trained, resumed, exported, imported only where asked for."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import nn

import layerwise
from helpers.commands import ROOT, assert_refused, run_script, words
from helpers.configs import configured
from helpers.data import CPU
from helpers.outside import FOLDER, LOSS, NETWORK, OWN, PLAN
from helpers.run_folders import numbers, only_run, results_of
from layerwise.config import build
from layerwise.config.datasets import own
from layerwise.config.identity import run_name
from layerwise.config.outside import offered
from layerwise.config.parse import from_yaml, to_yaml
from layerwise.core.errors import LayerwiseError
from layerwise.data.factory import load
from layerwise.data.own import Own, Samples, checked_samples
from layerwise.models.blocknet import BlockNet
from layerwise.models.readout import Readout
from layerwise.training.contracts import CONTRACTS
from layerwise.training.objectives import LocalLoss, ValueLoss
from layerwise.training.plan import Stage, checked_stages, greedy

GIVEN = words(Path("out"), **OWN)


@pytest.fixture(autouse=True)
def own_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's package can be imported; what another test has imported is forgotten."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_method"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(FOLDER)


@contextmanager
def no_import() -> Iterator[None]:
    """Fails where the package is imported."""
    original = importlib.import_module

    def refuse(name: str, package: str | None = None):
        assert not name.startswith("own_method"), f"{name} is imported"
        return original(name, package)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib, "import_module", refuse)
        yield


def test_a_head_a_network_and_a_loss_train_are_recorded_and_name_the_folder(trained):
    folder = trained(**OWN)
    assert folder.name.startswith("own_method.networks.residual-own_method.data.bars-own-k2-J2-seed0-")
    results, config = results_of(folder), yaml.safe_load((folder / "config.yaml").read_text())
    assert [row["parameters"] for row in results["blocks"]] == [
        {"block": 1 * 8 * 9 + 16, "head": 8 * 6 + 6 + 6 * 3 + 3},
        {"block": 8 * 8 * 9 + 16, "head": 8 * 6 + 6 + 6 * 3 + 3},
    ]
    assert config["model"]["head"] == {"_target_": "own_method.heads.bottleneck", "width": 6}
    assert (config["model"]["width"], config["model"]["halve"]) == (8, [2])
    assert config["objective"]["gamma"] == 1.5
    assert (config["dataset"]["samples"], config["plan"]["lr"]) == (300, 0.05)
    assert set(results["outside"]) == set(CONTRACTS)
    assert [stage["title"] for stage in results["stages"]] == ["block 1", "block 2"] * 2
    assert [stage["epochs"] for stage in results["stages"]] == [2, 2, 1, 1]
    record = results["outside"]["model"]
    assert (record["module"], record["arguments"]) == ("own_method.networks", {"width": 8, "halve": [2]})
    assert len(record["sha256"]) == 64
    assert record["sha256"] == results["outside"]["objective"]["sha256"]  # of all files of the package


def test_the_same_command_finds_the_finished_run_and_its_configuration_is_read_back(train_py, tmp_path):
    assert train_py(**OWN).code == 0
    outcome = train_py(**OWN)
    assert outcome.code == 0
    assert "this run is finished" in outcome.err
    path = only_run(tmp_path) / "config.yaml"
    assert to_yaml(from_yaml(path)) == path.read_text()


@pytest.mark.parametrize(
    "more", [{"model.width": 9}, {"model.head.width": 7}, {"objective.gamma": 1}, {"objective._target_": "x"}], ids=str
)
def test_arguments_name_the_folder_and_defaults_do_not(more):
    if more == {"objective._target_": "x"}:
        more = {"objective._target_": None, "objective.gamma": None}
    assert run_name(configured(*words(Path("out"), **OWN | more))) != run_name(configured(*GIVEN))
    spelled_out = words(Path("out"), **OWN | {"objective.gamma": 2.0})
    left_out = words(Path("out"), **OWN | {"objective.gamma": None})
    assert run_name(configured(*spelled_out)) == run_name(configured(*left_out))


def test_a_run_without_other_packages_has_no_trace_of_them(trained):
    folder = trained(epochs=1)
    assert "outside" not in results_of(folder)
    assert "outside" not in (folder / "config.yaml").read_text()
    assert not (folder / "code.json").exists()


BAD = {
    "model.head.widht": ({"model.head.widht": 3}, ["model.head.widht=3", "'model.head.width'"]),
    "model.widht": ({"model.widht": 3}, ["model.widht=3", "'model.width'"]),
    "what the contract gives": ({"model.shape": 3}, ["model.shape=3", "no such argument"]),
    "no package": ({"objective._target_": "nowhere.Loss"}, ["objective._target_=nowhere.Loss", "'nowhere'"]),
    "no function": ({"objective._target_": "own_method.losses.Fokal"}, ["own_method.losses has no 'Fokal'", "'Focal'"]),
    "a module": ({"objective._target_": "own_method.losses", "objective.gamma": None}, ["no function or class"]),
    "no name": ({"objective._target_": "3"}, ["objective._target_=3", "dotted name"]),
    "no signature": ({"objective._target_": "builtins.dict", "objective.gamma": None}, ["has no signature"]),
    "another number of blocks": (
        {"model._target_": "own_method.heads.bottleneck", "model.width": None, "model.halve": None},
        ["model._target_=own_method.heads.bottleneck", "returned 5 block(s) for J=2"],
    ),
    "a class weight": ({"dataset.class_weights": "balanced"}, ["dataset.class_weights", "no objective._target_"]),
    "a pruned network": (
        {**dict.fromkeys((*NETWORK, *PLAN)), "plan.prune_to": 4},
        ["plan.prune_to", "head of another package"],
    ),
    "a mistyped argument of the plan": ({"plan.second_epoch": 2}, ["plan.second_epoch=2", "'plan.second_epochs'"]),
    "a mistyped key of the data set": ({"dataset.validatoin": 0.1}, ["dataset.validatoin", "'dataset.validation'"]),
    "a name of layerwise's": ({"dataset.name": "blobs"}, ["dataset.name=blobs", "another name"]),
    "no samples": ({"dataset._target_": "builtins.dict", "dataset.samples": None}, ["dataset._target_=builtins.dict"]),
    "no stages": (
        {"plan._target_": "own_method.networks.residual", "plan.shape": "[1]", "plan.lr": None},
        ["plan._target_=own_method.networks.residual", "list of layerwise.training.plan.Stage"],
    ),
    "patience": ({"plan.patience": 1, "dataset.validation": 0.1}, ["plan.patience=1", "no such argument"]),
    "a missing J": ({"J": None, "model._target_": "own_method.heads.bottleneck", "model.halve": None}, ["J=N"]),
    "no plan=own": ({"plan": "simultaneous"}, ["plan._target_", "Add plan=own"]),
    "no model=own": ({"model": "simcnn"}, ["model._target_", "model=own"]),
}


@pytest.mark.parametrize(("overrides", "said"), BAD.values(), ids=list(BAD))
def test_what_does_not_fit_is_refused_by_name(train_py, overrides, said):
    assert_refused(train_py(**OWN | overrides), *said)


def test_a_required_argument_is_named(monkeypatch, tmp_path):
    (tmp_path / "needy.py").write_text("def head(shape, classes, *, width): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LayerwiseError, match=r"model\.head\.width=…, which has no default"):
        configured("model.head._target_=needy.head")


@pytest.mark.parametrize("network", ["model=mlp", "model=vgg", "model=timm model.name=test_resnet", "model=simcnn"])
def test_a_head_of_another_package_fits_every_network(monkeypatch, tmp_path, network):
    (tmp_path / "linear.py").write_text(
        "from math import prod\n"
        "from torch import nn\n"
        "def head(shape, classes, depth, J, later):\n"
        "    assert depth + len(later) == J\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = configured("model.head._target_=linear.head", *network.split())
    stages = build.build_agenda(config).stages()
    net = build.build_network(config, build.build_spec(config), stages)
    assert net.depths == tuple(range(1, config.J + 1))
    x = torch.zeros(2, 3, 32, 32)
    assert all(net.eval()(x, depth).shape == (2, 10) for depth in net.depths)
    again = build.build_network(config, build.build_spec(config), stages)
    assert torch.equal(again.head(2)[1].weight, net.head(2)[1].weight)


def test_a_loss_takes_the_place_of_the_cross_entropy_and_of_the_squared_error():
    def loss(z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.multi_margin_loss(z, targets) if z.dim() == 2 else (z - targets).abs().max()

    z, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    terms = LocalLoss(own=loss)([Readout(z), Readout(2 * z)], labels)
    assert terms["loss"] == F.multi_margin_loss(z, labels) + F.multi_margin_loss(2 * z, labels)
    assert terms["counts"]["correct"][0] == (z.argmax(1) == labels).sum()
    value = torch.randn(6, 1)
    assert ValueLoss(own=loss)([Readout(value)], labels.float())["loss"] == (value[:, 0] - labels).abs().max()


def test_an_objective_of_all_heads_and_one_of_torch(trained, monkeypatch, tmp_path):
    (tmp_path / "whole.py").write_text(
        "from layerwise.training.objectives import LocalLoss\n"
        "class Twice:\n"
        "    target = 'labels'\n"
        "    def __call__(self, readouts, targets):\n"
        "        terms = LocalLoss()(readouts, targets)\n"
        "        return {**terms, 'means': {'loss': [2 * loss for loss in terms['means']['loss']]}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plain, twice = trained(), trained(**{"objective._target_": "whole.Twice"})
    rows = [results_of(folder)["blocks"] for folder in (plain, twice)]
    for one, other in zip(*rows, strict=True):
        assert other["train"]["loss"] == pytest.approx(2 * one["train"]["loss"], rel=1e-6)
        assert other["test"] == one["test"]
    trained(**{"objective._target_": "torch.nn.MultiMarginLoss", "objective.margin": 0.5})


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_a_stopped_run_goes_on_to_the_bit(assert_goes_on_to_the_bit, cache):
    assert_goes_on_to_the_bit(lambda stage, saved: saved == 3, cache=cache, **OWN)


def test_a_cache_gives_the_numbers_of_recomputed_features(trained):
    rows = [results_of(trained(cache=cache, precision="fp32", **OWN))["blocks"] for cache in ("none", "disk")]
    assert [row["test"]["loss"] for row in rows[0]] == [row["test"]["loss"] for row in rows[1]]


def test_changed_code_is_named_when_a_run_goes_on(train_py, tmp_path, monkeypatch):
    shutil.copytree(FOLDER / "own_method", tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path)
    options = {"name": "run", "objective._target_": "mine.losses.Focal", "epochs": 1}
    assert train_py(**options).code == 0
    assert "has changed" not in train_py(**options).err
    with open(tmp_path / "mine" / "heads.py", "a") as file:
        file.write("# another file of the package\n")
    outcome = train_py(**options)
    assert outcome.code == 0
    assert "warning: objective._target_=mine.losses.Focal: its package has changed since" in outcome.err


def test_a_run_folder_imports_nothing_unless_it_is_trusted(trained, tmp_path):
    folder = trained(report="true", **OWN)
    report, image = (folder / "report.html").read_text(), tmp_path / "image.png"
    Image.new("L", (8, 8)).save(image)
    with no_import():
        with pytest.raises(LayerwiseError, match=r"layerwise\.load\(folder, trust=True\)"):
            layerwise.load(folder)
        for name, *more in (("export", str(folder)), ("probe", str(folder)), ("../predict", str(folder), str(image))):
            assert_refused(run_script(name, *more), "--trust")
        assert run_script("collect", str(tmp_path / "out")).code == 0
        outcome = run_script("make_report", str(folder))
        assert outcome.code == 0
        assert "use --trust" in outcome.err
    assert len((folder / "report.html").read_text()) < len(report)  # without the filters of block 1
    outcome = run_script("make_report", str(folder), "--trust")
    assert (outcome.code, outcome.err) == (0, "")
    assert (folder / "report.html").read_text() == report
    network = layerwise.load(folder, trust=True)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert network.spec.classes == ("horizontal", "vertical", "diagonal")


def test_a_run_whose_loss_alone_is_of_another_package_is_loaded_without_it(trained):
    folder = trained(**LOSS)
    with no_import():
        assert layerwise.load(folder).depths == (1, 2)


def test_a_network_of_another_package_is_exported(trained):
    folder = trained(**{**NETWORK, "model.head": "mlp_sr"})
    outcome = run_script("export", str(folder), "--format", "torch_export", "--trust")
    assert outcome.code == 0, outcome.err
    assert "largest difference from PyTorch" in outcome.out


def test_blocks_of_another_package_begin_as_those_of_another_run(trained):
    first = trained(**OWN)
    options = {"model.pretrained": first, "plan.frozen_blocks": 1, "plan.epochs": 1}
    second = layerwise.load(trained(**OWN | options), trust=True)
    assert torch.equal(second.blocks[0].path[0].weight, layerwise.load(first, trust=True).blocks[0].path[0].weight)


def test_the_contracts_offer_what_is_written_there():
    assert offered("model") == ["shape", "classes", "J", "k"]
    assert offered("model.head") == ["shape", "classes", "depth", "J", "k", "later"]
    assert (offered("objective"), offered("dataset"), offered("plan")) == (["classes"], ["root"], ["J", "epochs", "k"])


def test_samples_of_every_form_are_taken_and_others_named():
    images, labels = torch.randint(0, 256, (6, 4, 4, 3), dtype=torch.uint8), torch.arange(6) % 2
    pairs = [(image.permute(2, 0, 1), int(label)) for image, label in zip(images, labels, strict=True)]
    pictures = [(Image.fromarray(image.numpy()), label) for image, (_, label) in zip(images, pairs, strict=True)]
    for part in ((images, labels), pairs, pictures):
        samples = checked_samples((part, (images, labels)), "f")
        assert torch.equal(samples.train[0], images)
        assert torch.equal(samples.train[1], labels)
    spec = Own("mine", samples).spec()
    assert (spec.shape, spec.classes, spec.train_samples) == ((3, 4, 4), ("0", "1"), 6)
    scaled = images.reshape(-1, 3).double() / 255
    assert spec.mean == pytest.approx(scaled.mean(0).tolist())
    assert spec.std == pytest.approx(scaled.std(0, correction=0).tolist())
    vectors = (torch.rand(6, 2), labels)
    assert Own("mine", checked_samples((vectors, vectors), "f")).spec().mean == ()
    for given, said in (
        (None, "must return"),
        ((vectors, (images, labels)), "differ"),
        (((images.float(), labels), vectors), "train: values are float32"),
        (((images, labels.float()), vectors), "train: labels are float32"),
        (((images, labels - 1), vectors), "label -1"),
        (([(1, 2, 3)], vectors), "train: is no data set"),
        (Samples(vectors, vectors, ("one",)), "a label 1 for 1 classes"),
        (([(vector, 0.5 + label) for vector, label in zip(*vectors, strict=True)], vectors), "0.5 is no whole number"),
        (((vectors[0] / 0, labels), vectors), "train: sample 0, feature [01] is (inf|nan); give finite numbers"),
    ):
        with pytest.raises(LayerwiseError, match=said):
            checked_samples(given, "f")


def test_large_offsets_of_own_vectors_are_taken_off_before_they_are_narrowed():
    labels = torch.arange(40) % 2
    seconds = 1.7e9 + 20 * labels.double()[:, None]  # float32 has steps of 128 there
    samples = checked_samples(((seconds, labels), (seconds.float(), labels)), "f")
    train = load(Own("mine", samples), CPU).splits["train"]
    values = torch.cat(list(train.read([torch.arange(40)])))[:, 0]
    assert torch.equal(values, 2.0 * train.labels - 1)
    small = checked_samples(((seconds - 1.7e9, labels), (seconds - 1.7e9, labels)), "f")
    assert small.train[0].dtype == torch.float32  # as in runs of earlier versions


class Photographs:
    """A map-style data set of PIL images, which remembers what was read."""

    def __init__(self) -> None:
        self.read = set[int]()

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        self.read.add(i)
        return Image.new("RGB", (20, 10)), i % 2


def test_samples_that_do_not_fit_into_memory_are_refused_before_they_are_read(monkeypatch):
    photographs, free = Photographs(), 2 * 1000 * 20 * 10 * 3
    monkeypatch.setattr("layerwise.data.own.available_memory", lambda device: free - 1)
    with pytest.raises(LayerwiseError, match=r"f: train: 1000 samples of 600 bytes .*dataset=imagefolder"):
        checked_samples((photographs, photographs), "f")
    assert photographs.read == {0}
    monkeypatch.setattr("layerwise.data.own.available_memory", lambda device: free)
    assert checked_samples((photographs, photographs), "f").train[0].shape == (1000, 10, 20, 3)


def test_other_samples_than_a_run_began_with_are_refused(train_py, tmp_path, monkeypatch):
    (tmp_path / "varying.py").write_text(
        "import os, torch\n"
        "def read():\n"
        "    x = torch.arange(80.).view(40, 2) + float(os.environ['SHIFT'])\n"
        "    return (x, torch.arange(40) % 2), (x, torch.arange(40) % 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    vectors = dict.fromkeys(("dataset", "dataset.limit", "dataset.limit_test", "model.downsample", "J"))
    options = {**vectors, "dataset._target_": "varying.read", "model": "mlp", "batch_size": 8, "name": "run"}
    for shift, code in (("0", 0), ("1", 2)):
        monkeypatch.setenv("SHIFT", shift)
        own._samples.cache_clear()
        outcome = train_py(epochs=1, **options)
        assert outcome.code == code, outcome.err
        (tmp_path / "out" / "run" / "results.json").unlink(missing_ok=True)
    assert_refused(outcome, "dataset=varying.read", "not those that", "train sample 1")


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([], "returned no stages"),
        ("greedy", "must return a list"),
        ([Stage(0, 0, 3, (3,), 1)], "stage 1 trains blocks 1–3"),
        ([Stage(0, 0, 1, (1,), 0)], "stage 1 has 0 epochs"),
        ([Stage(0, 0, 2, (1,), 1)], "needs one at depth 2"),
        ([Stage(0, 0, 2, (2,), 1, target="inputs")], "no stage trains a classifier at depth 2"),
        ([Stage(0, 0, 2, 2, 1)], r"stage 1 has depths=2; give a tuple of depths, such as \(2,\)"),
        ([Stage(0, 0, 2, (2,), 1.5)], "stage 1 has epochs=1.5; it must be a whole number"),
        ([Stage(0, 0, 2, (2,), 1, lr=-1)], "stage 1 has lr=-1; it must be above 0"),
        ([Stage(0, 0, 2, (2,), 1, lr="0.1")], "stage 1 has lr='0.1'; it must be a number"),
        ([Stage(0, 0, 2, (2, 1), 1)], r"stage 1 has depths=\[2, 1\]; give each once, in ascending order"),
        ([Stage(0, 0, 2, (2, 2), 1)], r"stage 1 has depths=\[2, 2\]; give each once, in ascending order"),
        ([Stage(0, 0, 2, (2,), 1, target="label")], "stage 1 has target='label'; use labels or inputs"),
        ([Stage(0, 0, 1, (1,), 1), Stage(1, 0, 2, (2,), 1, warm_start=True)], "stage 2 has warm_start.* one block"),
        ([Stage(0, 1, 2, (2,), 1, warm_start=True)], "stage 1 has warm_start=True; .* behind one whose head"),
        ([Stage(0, 0, 2, (2,), 1, carry_from=1)], "stage 1 carries the head of depth 1, which no stage"),
    ],
)
def test_stages_that_do_not_fit_are_refused(stages, said):
    with pytest.raises(LayerwiseError, match=said):
        checked_stages(stages, 2, "f")


def test_a_stage_without_any_parameter_is_refused():
    network = BlockNet([nn.Linear(2, 2), nn.Identity()], {1: nn.Linear(2, 2), 2: nn.Identity()})
    with pytest.raises(LayerwiseError, match="block 2: neither blocks nor heads have parameters"):
        build.check_network(network, greedy(2, 1))
    build.check_network(network, greedy(2, 1, blocks_per_stage=2))


def test_a_plan_of_another_package_equals_the_one_that_it_is(trained):
    """greedy of layerwise itself, named from outside; an argument may have the name of another plan's key."""
    arguments = {"carried": True, "blocks_per_stage": 2}
    named = {f"plan.{name}": value for name, value in arguments.items()}
    own = trained(J=3, **{"plan._target_": "layerwise.training.plan.greedy"}, **named)
    plain = trained(J=3, **{"plan.head": "carried", "plan.blocks_per_stage": 2})
    assert from_yaml(own / "config.yaml").outside["plan"].arguments == arguments
    assert numbers(results_of(own)) == numbers(results_of(plain))


def test_an_experiment_file_may_name_them(tmp_path, train_py):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /model: own\n"
        "model:\n  _target_: own_method.networks.residual\n  width: 4\n  head:\n"
        "    _target_: own_method.heads.bottleneck\n    width: 3\n"
    )
    plain = {"model.width": None, "model.downsample": None, "model.head_width": None}
    outcome = train_py("--config-dir", str(tmp_path / "mine"), "experiment=own", "model.head.width=5", **plain)
    assert outcome.code == 0, outcome.err
    assert from_yaml(only_run(tmp_path) / "config.yaml").outside["model.head"].arguments == {"width": 5}


def test_the_example_trains_from_another_folder(tmp_path):
    """As a user does: a process of its own, the package on PYTHONPATH."""
    line = [sys.executable, "-m", "layerwise", "train", *words(tmp_path / "out", **OWN | {"epochs": 1})]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{FOLDER}"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results_of(only_run(tmp_path))["status"] == "completed"


def test_an_own_plan_may_reconstruct_so_that_its_loss_names_the_folder():
    arguments = ("plan.classifier_epochs=1", "plan.carried=true")
    names = {
        run_name(configured("plan._target_=layerwise.training.plan.autoencoder", *arguments, *more))
        for more in ((), ("objective.reconstruction=absolute_error",))
    }
    assert len(names) == 2
