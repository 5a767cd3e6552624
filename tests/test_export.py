"""layerwise export, and networks of every kind in every format."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import layerwise
from helpers.commands import run_script
from helpers.configs import configured
from helpers.run_folders import results_of
from layerwise.analysis import exporting
from layerwise.analysis.exporting import Format, Inputs, Servable, export
from layerwise.config import build
from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.models.blocknet import BlockNet
from layerwise.runs.loading import TrainedNet

TABLE = "a,b,c,kind\n" + "".join(f"{i},{i % 7},{-i},{'xyz'[i % 3]}\n" for i in range(60))
HALVED = ["model.downsample=[2]", "model.input_downsample=true"]  # both by the invertible operator
NETWORKS = {
    "simcnn": [*("dataset=digits", "J=2", "model.width=4", "model.head_width=4"), *HALVED],
    "mirrored": [
        "dataset=cifar10",
        "J=2",
        "model.width=4",
        "model.head_width=4",
        "model.downsample=[2]",
        "evaluation.mirror=true",
    ],
    "vgg": ["dataset=cifar10", "model=vgg", "model.width=4"],
    "timm": ["dataset=cifar10", "model=timm", "model.name=test_resnet"],
    "table": ["dataset=table", "dataset.path=table.csv", "model=mlp", "k=1", "J=2", "model.width=5"],
}


def network_of(overrides: list[str]) -> TrainedNet:
    """As `layerwise.load` would give it, at its initialisation."""
    config = configured(*overrides)
    spec = build.build_spec(config)
    if not spec.mean:  # of a table, which training computes
        features = spec.shape[0]
        spec = replace(spec, mean=(5.0,) * features, std=(3.0,) * features)
    stages = build.build_agenda(config).stages()
    network = TrainedNet(build.build_network(config, spec, stages), spec, config.evaluation.mirror)
    network.eval()
    for module in network.modules():  # else the exporter's folding of batch norms would not be seen
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


@pytest.fixture(autouse=True)
def _table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(TABLE)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_has_the_same_scores_in_onnx(kind):
    network = network_of(NETWORKS[kind])
    exported = export(Servable(network, ensemble=len(network.depths) > 1), Format.onnx)
    assert exported.difference < 1e-4


@pytest.mark.parametrize("kind", ["simcnn", "table"])
def test_torch_export_has_the_same_scores(kind):
    assert export(Servable(network_of(NETWORKS[kind])), Format.torch_export).difference < 1e-5


def test_a_network_whose_results_are_of_both_mirror_images_is_exported_so():
    servable = Servable(
        network_of(["dataset=cifar10", "J=2", "model.width=4", "model.downsample=[2]", "evaluation.mirror=true"])
    )
    images = servable.samples(3)
    torch.testing.assert_close(servable(images), servable(images.flip(3)))


@pytest.fixture
def folder(trained) -> Path:
    """A run of two blocks."""
    return trained(name="run")


def test_the_script_writes_a_file_that_onnxruntime_runs_alone(folder):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    outcome = run_script("export", str(folder), "--ensemble", "--inputs", "uint8")
    assert outcome.code == 0, outcome.err
    assert "largest difference from PyTorch" in outcome.out
    path = folder / "ensemble2.onnx"
    onnx.checker.check_model(onnx.load(path))
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list("0123456789")
    assert (metadata["depth"], metadata["predictor"], metadata["outputs"]) == ("2", "ensemble", "class scores")
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    (scores,) = session.run(["scores"], {"inputs": pixels.numpy()})
    network = layerwise.load(folder)
    with torch.no_grad():
        wanted = network.ensemble(network.normalise(pixels))
    torch.testing.assert_close(torch.from_numpy(scores), wanted, rtol=1e-4, atol=1e-4)


def test_an_earlier_depth_is_a_smaller_file_with_its_own_scores(folder, tmp_path):
    path = tmp_path / "first.pt2"
    assert (
        run_script("export", str(folder), "--depth", "1", "--format", "torch_export", "--output", str(path)).code == 0
    )
    assert run_script("export", str(folder), "--format", "torch_export").code == 0
    assert path.stat().st_size < (folder / "depth2.pt2").stat().st_size
    images = torch.rand(3, 1, 8, 8)
    network = layerwise.load(folder)
    torch.testing.assert_close(
        torch.export.load(path).module()(images), network(network.normalise(images * 255), depth=1)
    )


def test_a_depth_without_a_classifier_is_refused(folder):
    outcome = run_script("export", str(folder), "--depth", "3")
    assert outcome.code == 2
    assert outcome.err.strip() == "error: --depth 3: the run has no classifier at this depth. Use one of 1, 2."
    assert run_script("export", str(folder.parent)).code == 2


def test_a_file_with_other_scores_is_not_written(folder, monkeypatch):
    monkeypatch.setitem(
        exporting.FORMATS, Format.onnx, (exporting.write_onnx, lambda content: lambda x: torch.zeros(len(x), 10))
    )
    with pytest.raises(LayerwiseError, match="No file was written"):
        export(Servable(layerwise.load(folder)), Format.onnx)


def test_a_missing_library_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    outcome = run_script("export", str(folder))
    assert outcome.code == 2
    assert outcome.err.strip() == "error: --format onnx needs onnxscript: pip install onnx onnxscript onnxruntime."


def test_int8_is_a_smaller_file_whose_test_accuracy_is_measured(trained):
    options = {"model": "mlp", "k": 1, "model.width": 64, **dict.fromkeys(["model.head_width", "model.downsample"])}
    folder = trained("optimizer.lr=0.01", optimizer="adam", epochs=5, precision="fp32", **options)
    outcome = run_script("export", str(folder), "--int8")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("on the test samples: ")]
    accurate, rounded = (float(found) for found in re.findall(r"([\d.]+) % in", line))
    assert accurate == pytest.approx(results_of(folder)["blocks"][-1]["test"]["top1"])
    assert abs(accurate - rounded) <= 5
    content = (folder / "depth2-int8.onnx").read_bytes()
    assert len(content) < 0.5 * len(export(Servable(layerwise.load(folder)), Format.onnx).content)
    inputs = Servable(layerwise.load(folder)).samples(50)
    difference = (exporting.read_onnx(content)(inputs) - Servable(layerwise.load(folder))(inputs)).abs().max()
    assert 0 < difference < 1


def test_int8_of_real_valued_targets_of_a_table(trained):
    plain = dict.fromkeys(
        ["model.width", "model.head_width", "model.downsample", "dataset.limit", "dataset.limit_test"]
    )
    words = ["dataset.path=table.csv", "dataset.task=regression", "dataset.label=a", "dataset.drop=[kind]"]
    folder = trained("optimizer.lr=0.01", *words, dataset="table", model="mlp", k=1, batch_size=16, epochs=5, **plain)
    outcome = run_script("export", str(folder), "--int8")
    assert outcome.code == 0, outcome.err
    found = float(re.findall(r"R² (\S+) in float32", outcome.out)[0])
    assert found == pytest.approx(results_of(folder)["blocks"][-1]["test"]["r2"], abs=1e-3)


def test_int8_is_for_onnx(folder):
    outcome = run_script("export", str(folder), "--int8", "--format", "torch_export")
    assert outcome.err.strip() == "error: --int8 cannot be combined with --format torch_export. Use --format onnx."


def test_what_float32_would_merge_is_refused_and_a_format_of_images_for_vectors(tmp_path):
    spec = DatasetSpec(
        "table", (2,), ("a", "b"), (0.5, 1.7e9), (0.2, 10.0), 10, 5, columns={"x": None, "seconds": None}
    )
    blocks = BlockNet([nn.Linear(2, 2)], {1: nn.Linear(2, 2)})
    with pytest.raises(LayerwiseError, match=r"'seconds' has values of 1.7e.09 that differ by 10: float32"):
        Servable(TrainedNet(blocks, spec))
    small = replace(spec, mean=(0.5, 0.0))
    assert Servable(TrainedNet(blocks, small)).depth == 1
    with pytest.raises(LayerwiseError, match="--inputs uint8: is a format of images"):
        Servable(TrainedNet(blocks, small), inputs=Inputs.uint8)
    with pytest.raises(LayerwiseError, match=r"'time' has values of 1.7e.09"):
        Servable(TrainedNet(blocks, replace(small, target="time", classes=(), target_scale=(1.7e9, 11.0))))
