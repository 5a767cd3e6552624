"""scripts/same_numbers.py sees a number that changed, and a run that was not recorded."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.commands import run_script


def record(folder: Path, loss: float, **line: float | bool | None) -> Path:
    """A recording of one run."""
    run = folder / "table" / "mine"
    run.mkdir(parents=True)
    results = {"blocks": [{"block": 1, "train": {"loss": loss}, "seconds": {"train": loss}}], "final": {"block": 1}}
    (run / "results.json").write_text(json.dumps(results))
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "run": folder.name, **line}) + "\n")
    return folder


def test_what_differs_is_said(tmp_path):
    old, new = record(tmp_path / "old", 0.5, top1=None), record(tmp_path / "new", 0.25)
    same = run_script("same_numbers", "compare", str(old), str(old))
    assert "table: equal to the bit" in same.out
    assert "vgg: /whole: None became None" in same.out  # not recorded
    assert "1 of 23 runs" in same.out
    changed = run_script("same_numbers", "compare", str(old), str(new))
    assert "table: /whole/blocks/0/train/loss: 0.5 became 0.25\n" in changed.out
    assert changed.code == same.code + 1


def test_a_new_measure_is_no_difference_but_a_lost_one_is(tmp_path):
    old, new = record(tmp_path / "old", 0.5), record(tmp_path / "new", 0.5, improved_loss=True)
    assert "table: equal to the bit" in run_script("same_numbers", "compare", str(old), str(new)).out
    lost = run_script("same_numbers", "compare", str(new), str(old)).out
    assert "table: /whole/epochs/0/improved_loss is only in the old run" in lost
