"""The parts `small` and `logging` of scripts/benchmark.py run; how fast they are no test asks."""

from __future__ import annotations

import sys

from conftest import CPU, ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from _benchmark_logging import measure_logging
from _benchmark_small import measure_small


def test_the_part_small_gives_rates_of_both_loops(capfd):
    figures = measure_small(CPU, rounds=1, words=("J=2", "epochs=20"))
    assert set(figures) == {"ours", "bare", "ratio", "whole_run", "whole_run_ratio"}
    assert all(value > 0 for value in figures.values())
    assert f"{figures['ratio']:.2f}×" in capfd.readouterr().out


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
