"""scripts/cross_validate.py: its figures are those of the folds' runs, and it repeats nothing."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch

from helpers.commands import Outcome, assert_refused, run_script
from helpers.data import CPU
from helpers.run_folders import results_of
from layerwise.config.build import build_data, build_spec
from layerwise.config.parse import from_yaml
from layerwise.config.resolve import resolve

BLOBS = ("experiment=tutorial_blobs_supervised", "J=4", "epochs=3", "plan.patience=1", "seed=3")
"""Not all of three folds reach the same depth."""

DIGITS = ("experiment=tutorial_mlp_cifar10", "dataset=digits", "J=1", "epochs=1", "model.width=8")
"""An experiment that has a validation split of its own."""


@pytest.fixture
def cross_validate(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words: str, run: tuple[str, ...] = BLOBS) -> Outcome:
        places = ("progress=off", f"output_dir={tmp_path / 'out'}", "--json", str(tmp_path / "folds.json"))
        return run_script("cross_validate", "--folds", "3", *run, *places, *words)

    return call


def folds_in(tmp_path: Path) -> dict[int, Path]:
    """The run folder of each fold."""
    folders = (tmp_path / "out").iterdir()
    return dict(sorted((from_yaml(folder / "config.yaml").dataset.fold, folder) for folder in folders))


def contents(tmp_path: Path, name: str) -> list[tuple[str, int]]:
    """A file of each run folder: its text, and when it was written."""
    paths = [folder / name for folder in folds_in(tmp_path).values()]
    return [(path.read_text(), path.stat().st_mtime_ns) for path in paths]


def test_the_figures_are_those_of_the_folds_and_nothing_is_repeated(cross_validate, tmp_path):
    outcome = cross_validate()
    assert outcome.code == 0, outcome.err
    folders = folds_in(tmp_path)
    assert list(folders) == [1, 2, 3]
    record = json.loads((tmp_path / "folds.json").read_text())
    assert record["runs"] == [str(folder) for folder in folders.values()]
    runs = [results_of(folder) for folder in folders.values()]
    lines = outcome.out.splitlines()
    assert len({len(run["blocks"]) for run in runs}) > 1  # else the test would not see folds that lack a depth
    best = [max(run["blocks"], key=lambda row: row["validation"]["top1"])["block"] for run in runs]
    assert [row["block"] for row in record["depths"]] == list(range(1, max(len(run["blocks"]) for run in runs) + 1))
    for row in record["depths"]:
        depth, cells = row["block"], [f"{row['block']}", f"{len(row['in_folds'])} of 3"]
        assert row["in_folds"] == [fold for fold, run in enumerate(runs, 1) if len(run["blocks"]) >= depth]
        for split in ("validation", "test"):
            values = [run["blocks"][depth - 1][split]["top1"] for run in runs if len(run["blocks"]) >= depth]
            cells.append(assert_spread(row[split], values))
        assert row["best"] == best.count(depth)
        assert [*cells, f"{row['best']} of 3"] in [[c.strip() for c in line.strip("│").split("│")] for line in lines]
    chosen = [run["final"]["block"] for run in runs]
    assert record["result"]["block"] == chosen == best
    test = assert_spread(record["result"]["test"], [run["final"]["test_top1"] for run in runs])
    assert lines[-1].endswith(f"test {test} %")
    assert f"depth {chosen[0]} in {chosen.count(chosen[0])}" in lines[-1]

    files = ("metrics.jsonl", "results.json")
    written = [contents(tmp_path, name) for name in files]
    assert cross_validate().out == outcome.out
    assert [contents(tmp_path, name) for name in files] == written
    assert json.loads((tmp_path / "folds.json").read_text()) == record


def assert_spread(spread: dict[str, float], values: list[float]) -> str:
    """Checks mean and deviation; gives the text that the table should have."""
    assert spread["values"] == values
    assert spread["mean"] == pytest.approx(sum(values) / len(values))
    if len(values) == 1:
        assert spread["std"] is None
        return f"{values[0]:.2f}"
    assert spread["std"] == pytest.approx(statistics.stdev(values))
    return f"{sum(values) / len(values):.2f} ± {statistics.stdev(values):.2f}"


def test_each_training_sample_is_held_out_exactly_once(cross_validate, tmp_path):
    assert cross_validate(run=DIGITS).code == 0
    held = []
    for folder in folds_in(tmp_path).values():
        config = resolve(from_yaml(folder / "config.yaml"))
        splits = build_data(config, build_spec(config), CPU).splits
        held.append(splits["validation"].samples)
        assert not torch.isin(splits["train"].samples, held[-1]).any()
        assert len(splits["train"]) + len(held[-1]) == 1437
    assert torch.cat(held).sort().values.tolist() == list(range(1437))


def test_a_fold_that_diverges_is_named(cross_validate):
    assert_refused(cross_validate("optimizer.lr=1e30"), "fold 1 of 3", "became NaN or infinite")
