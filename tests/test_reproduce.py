"""scripts/reproduce.py: runs a set, says what was not run, and goes on where it stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from helpers.commands import ROOT
from helpers.configs import configured
from layerwise.config import build
from layerwise.models.costs import total_parameters
from layerwise.reporting.html.paper_figures import PAPER_FIGURES

sys.path.insert(0, str(ROOT / "scripts"))

import reproduce
from _set_table import describe, markdown, with_spread, with_stored
from reproduce import SCALES, SET_SCALES, SETS, Campaign, Row

DIGITS = (
    Row("demo_digits", "demo", ("J=2",)),
    Row("demo_digits", "demo", ("k=0",)),
    Row("demo_digits", "demo", ("plan=joint", "seed=7")),
)
SCALE = (
    "epochs=1",
    "plan.epochs=1",
    "dataset.limit=200",
    "dataset.limit_test=100",
    "model.width=4",
    "model.head_width=4",
)


@pytest.fixture
def digits(monkeypatch, tmp_path, forked_runs):
    monkeypatch.setitem(SETS, "digits", DIGITS)
    monkeypatch.setitem(SCALES["tiny"], "demo", SCALE)

    def call(*words: str) -> int:
        places = ["--output-dir", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "digits", "--scale", "tiny", *places, *words])
        return reproduce.main()

    return call


def test_a_set_runs_says_what_failed_and_what_was_not_run(digits, tmp_path, capfd):
    assert digits("--only", "demo_digits J=2", "demo_digits k=0") == 2
    document = json.loads((tmp_path / "results" / "digits_tiny.json").read_text())
    done, failed, absent = document["rows"]
    assert done["status"] == "completed"
    assert done["seeds"] == [0]
    assert done["ours"]["top1"]["std"] is None
    assert done["command"].startswith("layerwise train experiment=demo_digits J=2 epochs=1")
    assert len(done["blocks"][0]) == len(done["ensembles"][0]) == len(done["training"][0]) == 2
    assert {"seconds", "hardware", "git_commit", "parameters"} <= set(done)
    assert failed["status"].startswith("failed (error: k=0: must be 1 or more")
    assert "ours" not in failed
    assert absent["status"] == "not run"
    table = (tmp_path / "results" / "digits_tiny.md").read_text()
    assert "| not run |" in table
    assert table in capfd.readouterr().out


def test_the_same_command_goes_on_and_keeps_what_is_finished(digits, tmp_path):
    digits("--only", "demo_digits J=2")
    path = tmp_path / "out" / "digits_tiny" / "demo_digits-J2-seed0" / "results.json"
    first = path.read_text()
    assert digits("--only", "demo_digits J=2", "--seeds", "0", "1") == 0
    assert path.read_text() == first
    row = json.loads((tmp_path / "results" / "digits_tiny.json").read_text())["rows"][0]
    assert row["seeds"] == [0, 1]
    values = row["ours"]["top1"]["values"]
    assert row["ours"]["top1"]["mean"] == pytest.approx(sum(values) / 2)
    assert row["ours"]["top1"]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


def test_seeds_of_another_machine_stay_in_the_table(digits, tmp_path):
    digits("--only", "demo_digits J=2", "--seeds", "0", "1")
    (tmp_path / "out").rename(tmp_path / "other_machine")
    table = tmp_path / "results" / "digits_tiny.json"
    before = json.loads(table.read_text())["rows"][0]
    assert digits("--only", "demo_digits J=2", "--seeds", "1", "2", "dataset.root=/tmp") == 0
    row = json.loads(table.read_text())["rows"][0]
    assert row["seeds"] == [0, 1, 2]
    for values in (row["ours"]["top1"], row["ours"]["ensemble_top1"], row["seconds"]):
        assert len(values["values"]) == 3
        assert values["mean"] == pytest.approx(sum(values["values"]) / 3)
    assert row["ours"]["top1"]["values"][:2] == before["ours"]["top1"]["values"]  # seed 1 was trained again
    assert row["seconds"]["values"][0] == before["seconds"]["values"][0]
    assert row["seconds"]["values"][1] != before["seconds"]["values"][1]
    assert [len(row[name]) for name in ("blocks", "training", "ensembles")] == [3, 3, 3]
    assert "| 3 | " in table.with_suffix(".md").read_text()
    (tmp_path / "out").rename(tmp_path / "a_third_machine")
    assert digits("--only", "demo_digits k=0") == 2  # fails, and loses nothing
    assert json.loads(table.read_text())["rows"][0] == row


def test_seeds_of_another_command_do_not():
    entry = {"command": "layerwise train k=3", "seeds": [], "status": "not run"}
    assert with_stored(entry, {"command": "layerwise train k=2", "seeds": [0], "ours": {}}) == entry


def test_an_unknown_row_is_refused_with_the_nearest(digits, capfd):
    assert digits("--only", "demo_digit") == 2
    assert "Did you mean 'demo_digits'?" in capfd.readouterr().err


def test_nothing_is_filled_in_by_hand():
    campaign = Campaign("imagenet", "full", [0], Path("/nowhere"), ())
    rows = [describe(row, campaign.command(row), []) for row in SETS["imagenet"]]
    assert all(row["status"] == "not run" and "ours" not in row for row in rows)
    table = markdown({"set": "imagenet", "scale": "full", "rows": rows})
    assert "| paper_imagenet_k3 | 69.7 (71.6) | not run |" in table
    assert with_spread({"mean": 75.466, "std": 0.449}) == "75.47 ± 0.45"


def test_rows_are_experiments_and_scales_know_their_families():
    experiments = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    for rows in SETS.values():
        for row in rows:
            assert row.experiment in experiments
            assert row.reuses is None or any(row.reuses == other.name for other in rows)
            assert all(row.family in SCALES[scale] for scale in ("small", "tiny"))
    assert {name for name, _ in SET_SCALES} <= set(SETS)
    covered = {row.experiment for rows in SETS.values() for row in rows}
    assert set(PAPER_FIGURES) <= covered


@pytest.mark.parametrize("scale", ["small", "tiny"])
@pytest.mark.parametrize("name", SETS)
def test_a_smaller_scale_shrinks_every_row(name, scale):
    campaign = Campaign(name, scale, [0], Path("/nowhere"), ())
    for row in SETS[name]:
        config = configured(*campaign.command(row))
        stages = build.build_agenda(config).stages()
        assert sum(stage.epochs for stage in stages) <= {"small": 24, "tiny": 8}[scale], row.name
        assert (getattr(config.model, "width", None) or 0) <= (256 if row.family == "separability" else 32), row.name


@pytest.mark.parametrize("scale", ["full", "small", "tiny"])
def test_the_compressed_network_and_its_baseline_have_the_same_shape(scale):
    campaign = Campaign("compression", scale, [0], Path("/nowhere"), ())
    sizes = set()
    for row in SETS["compression"]:
        config = configured(*campaign.command(row))
        spec = build.build_spec(config)
        with torch.device("meta"):
            network = build.build_network(config, spec, build.build_agenda(config).stages())
        sizes.add(total_parameters(build.build_costs(config, network, spec, torch.float32)))
    assert len(sizes) == 1


def test_overrides_are_part_of_the_command_and_of_the_names(digits, tmp_path):
    assert digits("optimizer.lr=0.01", "dataset.root=/tmp", "--only", "demo_digits J=2") == 0
    document = json.loads((tmp_path / "results" / "digits_tiny_optimizer_lr0_01.json").read_text())
    assert document["rows"][0]["command"].endswith("optimizer.lr=0.01")
    assert not (tmp_path / "results" / "digits_tiny.json").exists()


@pytest.mark.parametrize("experiment", PAPER_FIGURES)
def test_an_experiment_file_states_the_papers_figure(experiment):
    text = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text()
    figure = PAPER_FIGURES[experiment]
    for value in (figure.top1, figure.ensemble_top1):
        assert value is None or str(value) in text


MEASURED = [
    pytest.param(row, id=f"{path.stem}-{row['experiment']}")
    for path in sorted((ROOT / "results").glob("*_small.json"))
    for row in json.loads(path.read_text())["rows"]
    if "ours" in row and " " not in row["experiment"]
]


@pytest.mark.parametrize("row", MEASURED)
def test_an_experiment_file_states_what_we_measured(row):
    text = (ROOT / "conf" / "experiment" / f"{row['experiment']}.yaml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("# Ours at a smaller scale")]
    for spread in row["ours"].values():
        assert f"{spread['mean']:.2f}" in line
    assert f"{row['seconds']['mean'] / 60:.1f} min" in line
