"""The part `small` of scripts/benchmark.py runs; how fast it is no test asks."""

from __future__ import annotations

import sys

from conftest import CPU, ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from _benchmark_small import measure_small


def test_the_part_small_gives_rates_of_both_loops(capfd):
    figures = measure_small(CPU, rounds=1, words=("J=2", "epochs=20"))
    assert set(figures) == {"ours", "bare", "ratio", "whole_run", "whole_run_ratio"}
    assert all(value > 0 for value in figures.values())
    assert f"{figures['ratio']:.2f}×" in capfd.readouterr().out
