"""What is shown: summaries, the live bar, plain lines."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from layerwise.progress import Display
from layerwise.trainer import EpochReport

FULL = dict.fromkeys(("J", "epochs", "batch_size", "dataset.limit", "dataset.limit_test"), "null")
FULL |= {"dataset": "cifar10", "model.width": "null", "model.head_width": "null", "model.downsample": "null"}


@pytest.mark.parametrize(("k", "parameters"), [(1, 33_670_922), (2, 3_124_106), (3, 5_484_426), (5, 10_205_066)])
def test_the_json_summary_of_the_papers_networks(train_py, tmp_path, k, parameters):
    outcome = train_py(k=k, summary="json", **FULL)
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert summary["parameters"] == parameters
    assert (
        sum(b["parameters"]["block"] for b in summary["blocks"]) + summary["blocks"][-1]["parameters"]["head"]
        == parameters
    )
    assert summary["config"]["J"] == len(summary["blocks"]) == (5 if k == 1 else 4)
    for block in summary["blocks"]:
        assert block["macs"]["block"] > 0
        assert block["cache_bytes"] > 50 * 50_000 * block["activation_bytes"]  # 50 views, and the test images
    assert not (tmp_path / "out").exists()


def test_the_summary_table_has_a_row_per_block(train_py):
    out = train_py(k=3, summary="table", **FULL).out
    assert "128×32×32" in out
    assert "256×16×16" in out
    assert "5,484,426" in out


def report(epoch: int) -> EpochReport:
    return EpochReport(
        epoch, steps=10, sums={"loss": [1500.0], "correct": [420]}, lr=0.1, seconds=2.0, images=1000, complete=True
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_epochs_are_shown_with_rate_and_time_left(terminal):
    display = Display(enabled=True)
    display.console = Console(file=io.StringIO(), force_terminal=terminal, width=120, highlight=False)
    display.begin_stage("block 1/2", epochs=2, steps=10, first_epoch=0, epochs_left=4)
    display.glance(5, loss=1.7)
    display.end_epoch(report(0), {"validation": {"loss": 1.0, "top1": 40.0, "top5": 80.0}})
    display.end_epoch(report(1), {})
    display.end_stage()
    text = display.console.file.getvalue()
    assert "block 1/2  epoch 1/2  loss 1.5000  train 42.00 %  validation 40.00 %  lr 0.1  500 img/s" in text
    assert "left 0:00:06" in text
    assert "left 0:00:04" in text
    assert ("━━━" in text) == terminal  # the bar


def test_progress_can_be_turned_off_but_warnings_stay():
    display = Display(enabled=False)
    display.console = Console(file=io.StringIO())
    display.note("a note")
    display.begin_stage("block 1/2", epochs=1, steps=10, first_epoch=0, epochs_left=2)
    display.glance(5, loss=1.7)
    display.end_epoch(report(0), {})
    display.end_stage()
    display.warn("a warning")
    assert display.console.file.getvalue().strip() == "warning: a warning"
