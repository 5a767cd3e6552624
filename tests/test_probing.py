"""Probes of trained runs: what they measure, what is kept, and unfinished runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.commands import assert_refused, run_script
from helpers.data import CPU
from helpers.run_folders import results_of
from layerwise.analysis import probing
from layerwise.analysis.separability import labels
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.core.types import Batch
from layerwise.data.factory import load
from layerwise.data.toy import Digits
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute

CHANCE = 10.0
QUICK = ("epochs=8", "limit=150")


@pytest.fixture
def folder(trained) -> Path:
    """A run of two blocks."""
    return trained(name="run", epochs=3)


def probes_of(folder: Path) -> dict:
    return json.loads((folder / "probes.json").read_text())


def rows_of(folder: Path) -> list[dict]:
    return probes_of(folder)["depths"]


def test_each_depth_is_probed_better_than_chance(folder):
    outcome = run_script("probe", f"run={folder}", *QUICK)
    assert outcome.code == 0, outcome.err
    assert "k = 2, M = 8" in outcome.out
    assert (folder / "probes.png").stat().st_size > 10_000
    rows = rows_of(folder)
    assert [row["block"] for row in rows] == [1, 2]
    for row in rows:
        assert row["settings"] == {"epochs": 8, "width": 8, "limit": 150, "seed": 0} | {
            "precision": results_of(folder)["precision"]
        }
        for probe in ("linear", "cnn1", "cnn2"):
            assert row[probe] > 2.5 * CHANCE, (row["block"], probe)
            assert row[probe] == pytest.approx(round(row[probe]))  # of 100 images
        assert {"hardware", "versions", "git_commit", "seconds"} <= set(row)


def test_what_was_measured_with_the_same_settings_is_used_again(folder, monkeypatch):
    assert run_script("probe", f"run={folder}", *QUICK).code == 0
    first = rows_of(folder)
    with monkeypatch.context() as patched:
        patched.setattr(probing, "probe_depth", lambda *args: pytest.fail("probed again"))
        assert run_script("probe", f"run={folder}", *QUICK, f"out={folder / 'again.png'}").code == 0
    assert (folder / "again.png").exists()
    assert rows_of(folder) == first
    assert run_script("probe", f"run={folder}", *QUICK, "seed=1", "width=4", "device=cpu").code == 0
    assert probes_of(folder)["earlier"] == first
    assert [(row["settings"]["seed"], row["settings"]["width"]) for row in rows_of(folder)] == [(1, 4), (1, 4)]
    second = rows_of(folder)
    assert run_script("probe", f"run={folder}", *QUICK).code == 0
    assert (rows_of(folder), probes_of(folder)["earlier"]) == (first, second)


def test_the_learning_rate_of_the_probes_can_be_chosen(folder):
    for bad in ("0", "nan", "fast"):
        assert_refused(run_script("probe", str(folder), "--lr", bad), "--lr")
    outcome = run_script("probe", str(folder), "--epochs=1", "--lr=1e30")
    assert_refused(outcome, "the CNN-1 probe at depth 1 diverged with the learning rate 1e+30. Use --lr")
    outcome = run_script("probe", str(folder), "--epochs=1", "--lr=0.02")
    assert (outcome.code, "learning rate 0.02" in outcome.out) == (0, True)
    assert [row["settings"]["lr"] for row in rows_of(folder)] == [0.02, 0.02]


def test_after_an_interruption_only_what_is_missing_is_probed(folder, monkeypatch):
    assert run_script("probe", f"run={folder}", *QUICK).code == 0
    whole = rows_of(folder)
    (folder / "probes.json").unlink()
    real = probing.probe_depth

    def stops_at_depth_2(*args):
        if args[2] == 2:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(probing, "probe_depth", stops_at_depth_2)
        assert run_script("probe", f"run={folder}", *QUICK).code == 130
    assert len(rows_of(folder)) == 1
    assert run_script("probe", f"run={folder}", *QUICK).code == 0
    probes = ("block", "network", "linear", "cnn1", "cnn2")
    assert [[row[name] for name in probes] for row in rows_of(folder)] == [[row[n] for n in probes] for row in whole]


def test_other_weights_are_probed_anew(folder):
    assert run_script("probe", f"run={folder}", "epochs=1", "limit=50").code == 0
    stored = probes_of(folder)
    stored["depths"][0]["network"] = "of an earlier training"
    (folder / "probes.json").write_text(json.dumps(stored))
    assert run_script("probe", f"run={folder}", "epochs=1", "limit=50").code == 0
    assert [row["block"] for row in rows_of(folder)] == [1, 2]
    assert [row["network"] for row in probes_of(folder)["earlier"]] == ["of an earlier training"]
    assert rows_of(folder)[1] == stored["depths"][1]


def test_of_an_unfinished_run_the_finished_depths_are_probed(folder):
    (folder / "checkpoints" / "stage_2.safetensors").unlink()
    outcome = run_script("probe", f"run={folder}", "epochs=1", "limit=50")
    assert outcome.code == 0
    assert "depth 2 is not finished, so not probed" in outcome.err
    assert "not finished" in outcome.out
    assert [row["block"] for row in rows_of(folder)] == [1]


def test_several_runs_share_a_figure(trained, folder):
    other = trained(name="other", J=1, epochs=1, **{"model.downsample": "[]"})
    outcome = run_script("probe", f"run=[{folder},{other}]", "epochs=1", "limit=50")
    assert outcome.code == 0
    assert "k = 2, M = 8, run" in outcome.out  # the labels tell them apart
    assert "k = 2, M = 8, other" in outcome.out
    assert (folder / "probes.png").exists()
    assert not (other / "probes.png").exists()
    assert len(rows_of(other)) == 1


def test_features_are_averaged_over_quadrants():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    averages, labels = probing.average_quadrants([Batch(x, torch.tensor([3])), Batch(x + 1, torch.tensor([4]))])
    assert np.array_equal(averages, [[2.5, 4.5, 10.5, 12.5], [3.5, 5.5, 11.5, 13.5]])
    assert labels.tolist() == [3, 4]


def test_the_linear_probe_uses_no_labels_that_the_run_may_not_use(monkeypatch):
    sizes, average = [], probing.average_quadrants

    def counted(batches):
        features, labels = average(batches)
        sizes.append(len(labels))
        return features, labels

    monkeypatch.setattr(probing, "average_quadrants", counted)
    data = load(Digits(), CPU, labelled=0.1, limit_train=600, limit_test=50)
    source = Recompute(data, BatchPlan(100, 0), Precision(torch.float32, "cpu"))
    probing.linear_separability(source, None, 0, StopRequest())
    assert sizes == [60, 50]


def test_runs_of_one_name_have_lines_of_their_own():
    runs = [{"k": 3, "width": 8, "name": name} for name in ("a", "a", "b")]
    assert labels(runs) == ["k = 3, M = 8, a (1)", "k = 3, M = 8, a (2)", "k = 3, M = 8, b"]
    assert labels(runs[:1]) == ["k = 3, M = 8"]
