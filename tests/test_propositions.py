"""Propositions 3.1 and 3.2 as scripts/propositions.py checks and measures them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import layerwise.training.beginnings
from helpers.commands import run_script

TINY_RUNS = ("--J=3", "--width=4", "--epochs=2", "--shorter=1", "--seed=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run folders, which all checks of a module share."""
    return tmp_path_factory.mktemp("runs")


def propositions(folder, *words: str):
    return run_script("propositions", *TINY_RUNS, f"--output-dir={folder}", f"--out={folder / 'out'}", *words)


def test_a_warm_start_begins_where_the_block_before_ended(folder):
    outcome = propositions(folder, "--check=3.1")
    assert outcome.code == 0, outcome.err
    assert "holds to 1e-05" in outcome.out
    record = json.loads((folder / "out.json").read_text())
    assert set(record) == {"3.1"}
    assert record["3.1"]["holds"]
    assert [row["block"] for row in record["3.1"]["blocks"]] == [2, 3]
    for row in record["3.1"]["blocks"]:
        assert row["begins"] == pytest.approx(row["ended"], rel=1e-5)
        assert row["trained"] != row["begins"]
    assert not (folder / "out.png").exists()


def test_a_broken_warm_start_is_found(folder, monkeypatch):
    real = layerwise.training.beginnings.warm_start

    def broken(network, depth, features):
        real(network, depth, features)
        with torch.no_grad():
            next(m for m in network.blocks[depth - 1] if isinstance(m, nn.Conv2d)).weight.mul_(0.99)

    monkeypatch.setattr(layerwise.training.beginnings, "warm_start", broken)
    outcome = propositions(folder, "--check=3.1")
    assert outcome.code == 1
    assert "does not hold" in outcome.err
    assert not json.loads((folder / "out.json").read_text())["3.1"]["holds"]


def test_errors_accumulate_from_those_of_single_blocks(folder):
    outcome = propositions(folder, "--check=3.2")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads((folder / "out.json").read_text())["3.2"]["runs"]
    assert row["epochs"] == 1
    assert row["epsilon"] == max(row["epsilons"])
    assert 0 < row["errors"][0] <= row["epsilons"][0]  # block 1 has the same input in both, and ρ is 1-Lipschitz
    assert len(row["errors"]) == len(row["epsilons"]) == 3
    assert row["stability"] > 0
    assert (folder / "out.png").stat().st_size > 10_000


def test_both_together_use_the_finished_runs_again(folder):
    made = sorted(folder.glob("*/metrics.jsonl"))
    times = [path.stat().st_mtime_ns for path in made]
    assert propositions(folder).code == 0
    assert set(json.loads((folder / "out.json").read_text())) == {"3.1", "3.2"}
    assert [path.stat().st_mtime_ns for path in made] == times
    assert len(list(folder.glob("*/metrics.jsonl"))) == 2
