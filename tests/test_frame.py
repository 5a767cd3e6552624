"""layerwise.results: a frame with a row per run and depth."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

import layerwise
from helpers.commands import ROOT
from helpers.run_folders import results_of, rewrite_results
from layerwise.core.errors import LayerwiseError


@pytest.fixture
def runs(train_py, tmp_path) -> Path:
    """Two seeds of greedy training with another weight decay each, and one of end-to-end training."""
    for more in ({"seed": 0}, {"seed": 1, "optimizer.weight_decay": 0.01}, {"plan": "joint"}):
        assert train_py(epochs=1, **more).code == 0
    return tmp_path / "out"


def test_a_row_per_run_and_depth_with_the_figures_of_results_json(runs):
    frame = layerwise.results(runs / "*")
    assert len(frame) == 2 + 2 + 1
    for (folder, depth), rows in frame.groupby(["folder", "depth"]):
        (row,) = rows.to_dict("records")
        found = results_of(Path(folder))
        block = next(block for block in found["blocks"] if block["block"] == depth)
        assert (row["run"], row["seed"], row["plan"]) == (found["name"], found["seed"], found["plan"])
        assert row["test_top1"] == block["test"]["top1"]
        assert row["ensemble_top1"] == block["ensemble"]["top1"]
        assert row["parameters_block"] == block["parameters"]["block"]
        assert row["seconds_train"] == block["seconds"]["train"]
        assert row["is_final"] == (depth == found["final"]["block"])
    assert set(frame["optimizer.weight_decay"]) == {0.0005, 0.01}  # the runs differ in it
    assert "optimizer.lr" not in frame
    assert frame.equals(layerwise.results(str(runs), f"{runs}/*"))  # each run once


def test_runs_that_cannot_be_read_are_warned_about(runs):
    first, second, third = sorted(runs.iterdir())
    (first / "results.json").write_text("{")
    (second / "results.json").unlink()
    rewrite_results(third, results_of(third) | {"status": "interrupted"})
    with pytest.warns(UserWarning, match=re.escape(str(first))):
        frame = layerwise.results(runs)
    assert set(frame.folder) == {str(third)}
    assert set(frame.status) == {"interrupted"}


def test_a_pattern_that_finds_no_run_is_named(tmp_path):
    with pytest.raises(LayerwiseError, match=r"nothing/\*: holds no runs"):
        layerwise.results(tmp_path / "nothing" / "*")


def test_the_example_of_the_page(runs, monkeypatch, capfd):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reports.md").read_text(), re.DOTALL)
    runs.rename(runs.parent / "outputs")
    monkeypatch.chdir(runs.parent)
    exec(compile(program, "reports.md", "exec"), {})
    last = [results_of(path)["final"]["test_top1"] for path in sorted((runs.parent / "outputs").glob("*greedy*"))]
    (line,) = [line.split() for line in capfd.readouterr().out.splitlines() if line.startswith("greedy")]
    assert [float(word) for word in line[1:]] == pytest.approx(
        [statistics.fmean(last), statistics.stdev(last), 2], abs=1e-4
    )
