"""The parts `small` and `logging` of scripts/benchmark.py run; how fast they are no test asks."""

from __future__ import annotations

import os
import sys

import pytest
from conftest import CPU, ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from _benchmark_logging import measure_logging
from _benchmark_processes import measure_processes
from _benchmark_small import measure_small


def test_the_part_small_gives_rates_of_both_loops(capfd):
    figures = measure_small(CPU, rounds=1, words=("J=2", "epochs=20"))
    assert set(figures) == {"ours", "bare", "ratio", "whole_run", "whole_run_ratio"}
    assert all(value > 0 for value in figures.values())
    assert f"{figures['ratio']:.2f}×" in capfd.readouterr().out


@pytest.mark.real_data
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_part_processes_gives_rates_of_one_and_of_two(capfd):
    figures = measure_processes(rounds=1, words=("dataset.limit=512", "model.width=8", "model.head_width=8"))
    for way in ("data", "blocks"):
        row = figures[way]
        assert row["ratio"] == pytest.approx(row["two"] / row["one"]) == pytest.approx(2 * row["efficiency"])
    assert len(figures["blocks"]["utilisation"]) == 2
    assert f"efficiency {figures['data']['efficiency']:.2f}" in capfd.readouterr().out


def test_the_part_processes_says_that_it_needs_data(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    assert measure_processes() == {}
    assert "not measured" in capsys.readouterr().out


def test_the_part_logging_gives_the_share_of_the_loggers(capfd):
    figures = measure_logging(CPU, rounds=1, words=("J=1", "epochs=2", "dataset.limit=200", "model.downsample=[]"))
    assert set(figures) == {
        "none",
        "both",
        "none_cpu",
        "both_cpu",
        "ratio",
        "share",
        *(f"{c}_seconds" for c in ("begin", "epoch", "stage", "end")),
    }
    assert all(value > 0 for value in figures.values())
    assert f"{figures['ratio']:.3f}×" in capfd.readouterr().out
