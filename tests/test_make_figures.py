"""scripts/make_figures.py: what is drawn of run folders and of files of results/."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from helpers.commands import ROOT, run_script
from layerwise.analysis.depth_curves import Network, networks_of
from layerwise.analysis.drawing import pyplot
from layerwise.commands.figures import COLUMN, accuracy_over_depth
from layerwise.core.spread import binomial_margin

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
        pdf = (tmp_path / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/FontFile2" in pdf  # TrueType, whose letters stay letters
        assert b"/Type3" not in pdf
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_the_lines_are_those_of_results_json(runs):
    greedy, joint = sorted(networks_of([runs]), key=lambda network: network.is_end_to_end)
    assert (greedy.label, joint.label) == ("k = 2, M = 8", "k = 2, M = 8, end to end")
    assert (greedy.panel, joint.is_end_to_end, greedy.is_end_to_end) == ("digits", True, False)
    folders = sorted(runs.glob("*greedy*"))
    assert len(folders) == len(greedy.heads) == 2
    assert greedy.heads == [accuracies(folder, "test") for folder in folders]
    assert (greedy.tested, joint.tested) == (100, 100)
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


def test_a_figure_is_as_wide_as_a_column_with_all_of_its_legend(runs, tmp_path):
    assert run_script("make_figures", str(runs), "--output", str(tmp_path)).code == 0
    pdf = (tmp_path / "accuracy_over_depth.pdf").read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ ?([\d. ]+)\]", pdf)
    width = float(box.split()[2]) / 72
    assert COLUMN - 0.4 < width <= COLUMN


def test_means_have_bands_also_of_end_to_end_training_and_no_colour_twice():
    heads = [{1: 50.0, 2: 60.0}, {1: 54.0, 2: 66.0}]
    networks = [Network(str(i), f"k = {i}", "digits", 100, heads, heads) for i in range(9)]
    networks.append(Network("joint", "joint", "digits", 100, [{2: 90.0}, {2: 94.0}]))
    figure = accuracy_over_depth(networks, pyplot())
    (panel,) = figure.axes
    lines = [line for line in panel.lines if line.get_linestyle() != "None"]
    assert len({line.get_color() for line in lines if line.get_label()[0] != "_"}) == 11  # and the grey of the legend
    assert [list(line.get_ydata()) for line in lines if line.get_label() == "k = 3 (2 seeds)"] == [[52.0, 63.0]]
    (across,) = [line for line in lines if line.get_label().startswith("joint (2 seeds)")]
    assert list(across.get_ydata()) == [92.0, 92.0]
    (band,) = panel.patches
    assert band.get_extents().transformed(panel.transData.inverted()).height == pytest.approx(2 * 8**0.5)
    assert panel.get_ylabel() == f"test accuracy (%)\nn = 100, 95 % interval ±{binomial_margin(92, 100):.2g}"
