"""scripts/make_figures.py: what is drawn of run folders and of files of results/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from helpers.commands import ROOT, run_script
from layerwise.analysis.depth_curves import networks_of

pytest.importorskip("matplotlib")

PROBE = {"k": 2, "width": 8, "name": "run", "planned": 2, "settings": {}}
PROBED = PROBE | {
    "depths": [{"block": block, "linear": 50.0, "cnn1": 60.0 + block, "cnn2": 70.0} for block in (1, 2)],
    "earlier": [],
}


@pytest.fixture
def runs(train_py, tmp_path) -> Path:
    """Two seeds of one network, and one that is trained end to end."""
    for more in ({"seed": 0}, {"seed": 1}, {"plan": "joint"}):
        assert train_py(epochs=1, **more).code == 0
    return tmp_path / "out"


def accuracies(folder: Path, measure: str) -> dict[int, float]:
    return {row["block"]: row[measure]["top1"] for row in json.loads((folder / "results.json").read_text())["blocks"]}


def test_runs_are_averaged_over_seeds_and_written_as_pdf_and_png(runs, tmp_path):
    greedy = next(runs.glob("*greedy*seed0*"))
    (greedy / "probes.json").write_text(json.dumps(PROBED))
    outcome = run_script("make_figures", str(runs), "--output", str(tmp_path / "figures"))
    assert outcome.code == 0, outcome.err
    for name in ("accuracy_over_depth", "separability"):
        assert (tmp_path / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_lines_are_those_of_results_json(runs):
    greedy, joint = sorted(networks_of([runs]), key=lambda network: network.is_end_to_end)
    assert (greedy.label, joint.label) == ("k = 2, M = 8", "k = 2, M = 8, joint")
    assert (greedy.panel, joint.is_end_to_end, greedy.is_end_to_end) == ("digits", True, False)
    folders = sorted(runs.glob("*greedy*"))
    assert len(folders) == len(greedy.heads) == 2
    assert greedy.heads == [accuracies(folder, "test") for folder in folders]
    assert greedy.ensembles == [accuracies(folder, "ensemble") for folder in folders]


def test_files_of_results_are_drawn_too(tmp_path):
    source = ROOT / "results" / "cifar10_small.json"
    k3 = next(network for network in networks_of([source]) if network.name == "paper_cifar10_k3")
    row = next(row for row in json.loads(source.read_text())["rows"] if row["experiment"] == "paper_cifar10_k3")
    assert k3.heads == [dict(enumerate(row["blocks"][0], 1))]
    assert k3.ensembles == [{4: row["ours"]["ensemble_top1"]["mean"]}]
    outcome = run_script("make_figures", str(ROOT / "results" / "probes_small.json"), "--output", str(tmp_path))
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "separability.pdf").exists()
