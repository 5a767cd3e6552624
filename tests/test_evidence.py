"""A figure of results/ is found again: `LAYERWISE_DATA=FOLDER pytest -m evidence`, some three minutes on a core."""

from __future__ import annotations

import json
import os
import shlex
from math import sqrt
from pathlib import Path

import pytest

from helpers.commands import ROOT
from helpers.run_folders import only_run, results_of
from layerwise.commands.own_process import run_process

pytestmark = pytest.mark.evidence
DATA = Path(os.environ.get("LAYERWISE_DATA", "data"))
POINT = "greedy k=3, 0.03 PFLOP"
NEW_SEED = 100
BINOMIAL = 0.37  # standard deviation in points of 84 % on 10,000 images


def test_the_cheapest_point_of_the_frontier_is_found_again(tmp_path):
    rows = json.loads((ROOT / "results" / "frontier.json").read_text())["rows"]
    (row,) = [row for row in rows if row["experiment"].startswith(POINT)]
    assert NEW_SEED not in row["seeds"]
    words = shlex.split(row["command"])[2:]
    more = [f"seed={NEW_SEED}", f"dataset.root={DATA.resolve()}", f"output_dir={tmp_path / 'out'}", "report=false"]
    error = run_process([str(ROOT / "train.py"), *words, *more], shown=["layerwise", "train", *words])
    assert error is None
    results = results_of(only_run(tmp_path))
    assert results["pflop"]["total_train"] == pytest.approx(row["pflop"]["total_train"])
    known = row["ours"]["top1"]
    noise = max(known["std"] or 0, BINOMIAL) * sqrt(1 + 1 / len(row["seeds"]))
    assert abs(results["final"]["test_top1"] - known["mean"]) < 4 * noise
