"""What is shown: summaries, the live bar, plain lines."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import warnings
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from layerwise.models.costs import BlockCost
from layerwise.reporting import tables
from layerwise.reporting import terminal as progress
from layerwise.reporting.tables import costs_table, results_table, show
from layerwise.reporting.terminal import Display
from layerwise.training.reports import EpochReport, Glance

FULL = dict.fromkeys(("J", "epochs", "batch_size", "dataset.limit", "dataset.limit_test"), "null")
FULL |= {"dataset": "cifar10", "model.width": "null", "model.head_width": "null", "model.downsample": "null"}


@pytest.mark.parametrize(("k", "parameters"), [(1, 33_668_106), (2, 3_124_106), (3, 5_484_426), (5, 10_205_066)])
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


SEEN = Glance(steps=5, scores={"loss": 1.7, "top1": 38.0}, images=500, seconds=1.0)


def display_on(terminal: bool, width: int = 130) -> Display:
    display = Display(enabled=True)
    display.console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False)
    return display


def said(display: Display) -> str:
    """What was written, without colours and the movements of the cursor."""
    return re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", display.console.file.getvalue())


def row(depth: int, **more) -> dict:
    scores = {"train": {"top1": 70.0}, "test": {"top1": 60.5, "top5": 99.0}, "ensemble": {"top1": 61.25}}
    return {"block": depth, **scores, "seconds": {"train": 2.0, "evaluate": 0.5}, "images_per_second": 1500.0, **more}


def test_in_a_log_there_is_a_line_per_epoch_and_per_finished_block():
    display = display_on(terminal=False)
    display.begin_stage("block 1/2", epochs=2, steps=10, first_epoch=0, epochs_left=4)
    display.glance(SEEN)
    display.end_epoch(report(0), {"validation": {"loss": 1.0, "top1": 40.0, "top5": 80.0}})
    display.end_epoch(report(1), {})
    display.end_stage()
    with display.doing("block 1/2  evaluating"):
        pass
    display.show_rows("block 1", [row(1)])
    assert display.console.file.getvalue().splitlines() == [
        "block 1/2  epoch 1/2  loss 1.5000  train 42.00 %  validation 40.00 %  lr 0.1  500 images/s  "
        "left 0:00:02 (run 0:00:06)",
        "block 1/2  epoch 2/2  loss 1.5000  train 42.00 %  lr 0.1  500 images/s  left 0:00:00 (run 0:00:04)",
        "block 1 finished:  depth 1  train 70.00 %  test 60.50 %  top-5 99.00 %  ensemble 61.25 %  images/s 1,500  "
        "seconds 2.5",
    ]


@pytest.mark.parametrize("width", [130, 80])
def test_on_a_terminal_there_is_a_live_line_and_a_row_per_finished_block(width):
    display = display_on(terminal=True, width=width)
    for number in (1, 2):
        display.begin_stage(f"block {number}/2", epochs=2, steps=10, first_epoch=0, epochs_left=6 - 2 * number)
        display.glance(SEEN)
        display.end_stage()
        with display.doing(f"block {number}/2  evaluating"):
            pass
        display.show_rows(f"block {number}", [row(number)])
    text = said(display)
    assert "━━━" in text  # the bar
    figures = "loss 1.7000  train 38.00 %  500 images/s  left 0:00:03 (run 0:00:07)"
    line = next(line for line in re.split("[\r\n]+", text) if figures in line)
    assert ("block 1/2  epoch 1/2" in line) == (width == 130)  # else they stand below each other
    assert all(len(line) <= width for line in re.split("[\r\n]+", text))
    assert "block 2/2  evaluating" in text
    table = [line.split() for line in re.split("[\r\n]+", text) if "1,500" in line or "trained" in line]
    assert " ".join(table[0]) == "trained depth train % test % top-5 % ensemble % images/s seconds"
    assert table[1] == ["block", "1", "1", "70.00", "60.50", "99.00", "61.25", "1,500", "2.5"]
    assert [cells[:3] for cells in table] == [["trained", "depth", "train"], ["block", "1", "1"], ["block", "2", "2"]]


def test_the_live_line_is_drawn_seldom_and_by_no_thread(monkeypatch):
    display = display_on(terminal=True)
    threads = threading.active_count()
    display.begin_stage("block 1/2", epochs=1000, steps=10, first_epoch=0, epochs_left=2000)
    frames = []
    monkeypatch.setattr(progress, "frame", lambda *words: frames.append(words) or Text("frame"))
    for epoch in range(900):
        display.end_epoch(report(epoch), {})
    assert threading.active_count() == threads
    assert len(frames) <= 2
    display.end_stage()


def test_what_others_print_stands_above_the_live_line():
    display = display_on(terminal=True)
    display.begin_stage("block 1/2", epochs=2, steps=10, first_epoch=0, epochs_left=4)
    display.glance(SEEN)
    print(warnings.formatwarning("from Python", UserWarning, "a.py", 1), file=sys.stderr)
    display.warn("from the run")
    display.glance(replace(SEEN, steps=6))
    display.end_stage()
    lines = re.split("[\r\n]+", said(display))
    assert "a.py:1: UserWarning: from Python" in lines
    assert "warning: from the run" in lines
    assert lines.index("warning: from the run") < max(i for i, line in enumerate(lines) if "train 38.00 %" in line)


def test_each_process_and_the_heads_that_a_stage_has_are_shown():
    display = display_on(terminal=False)
    processes = [{"blocks": [1, 2], "utilisation": 0.934}, {"blocks": [3, 3], "utilisation": 0.71}]
    display.show_rows("blocks 1–3", [row(depth, processes=processes) for depth in (1, 2, 3)])
    lines = display.console.file.getvalue().splitlines()
    assert [line[:30] for line in lines[:3]] == [f"blocks 1–3 finished:  depth {depth} " for depth in (1, 2, 3)]
    assert lines[3] == "time that each process computed and did not wait for another: blocks 1–2 93 %, block 3 71 %"


def test_a_reconstruction_has_columns_of_its_own():
    display = display_on(terminal=True)
    errors = {"block": 1, "reconstruction": {"test": {"loss": 0.125}}, "seconds": {"train": 1.0}}
    display.show_rows("autoencoder 1", [errors | {"images_per_second": 10.0}])
    display.show_rows("head 1", [row(1)])
    lines = [line.split() for line in said(display).splitlines()]
    assert lines[0] == ["trained", "depth", "test", "error", "images/s", "seconds"]
    assert lines[1] == ["autoencoder", "1", "1", "0.125", "10", "1.0"]
    assert lines[2][:4] == ["trained", "depth", "train", "%"]


def test_progress_can_be_turned_off_but_warnings_stay():
    display = Display(enabled=False)
    display.console = Console(file=io.StringIO(), force_terminal=True, color_system=None)
    display.note("a note")
    display.begin_stage("block 1/2", epochs=1, steps=10, first_epoch=0, epochs_left=2)
    display.glance(SEEN)
    display.end_epoch(report(0), {})
    display.end_stage()
    with display.doing("block 1/2  evaluating"):
        display.show_rows("block 1", [row(1)])
    display.warn("a warning")
    assert display.console.file.getvalue().strip() == "warning: a warning"


def test_a_resumed_run_shows_the_blocks_that_are_finished(train_py, tmp_path):
    assert train_py(name="run", J=1, **{"model.downsample": "[]"}).code == 0
    again = train_py("plan.reuse=" + str(tmp_path / "out" / "run"), name="more", **{"model.downsample": "[]"})
    assert again.code == 0
    finished = [line for line in again.err.splitlines() if "finished:" in line]
    assert [line.split(" finished")[0] for line in finished] == ["block 1", "block 2"]
    assert finished[0].index("test ") < finished[0].index("ensemble ")


def test_the_final_table_has_no_dash_that_it_does_not_explain():
    whole = {"parameters": {"block": 1, "head": 1}}
    error = {"reconstruction": {"test": {"loss": 0.5}}, "parameters": {"block": 1}, "seconds": {"train": 1.0}}
    table = results_table({"name": "x", "blocks": [{"block": 1, **error}, row(2, **whole)], "final": {"block": 2}})
    assert "– no classifier or decoder at that depth gives this figure" in str(table.caption)
    assert results_table({"name": "x", "blocks": [row(1, **whole)], "final": {"block": 1}}).caption is None


@pytest.mark.parametrize("width", [80, 60])
def test_tables_fit_narrow_terminals_and_cut_no_word(width, monkeypatch, capsys):
    monkeypatch.setattr(tables, "WIDTH_OF_FILES", width)
    large = {"parameters": {"block": 33_670_922, "head": 2_360_842}, "validation": {"top1": 50.0}, "improved": True}
    results = {"name": "simcnn-" * 9 + "name", "blocks": [row(1, **large), row(2, **large)], "final": {"block": 2}}
    costs = [BlockCost(j, (512, 112, 112), 33_670_922, 2_360_842, 10**9, 10**7, 25_690_112) for j in (1, 2)]
    for table in (results_table(results), costs_table(costs, [10**10, 10**9], "title")):
        show(table)
        title, *lines = capsys.readouterr().out.splitlines()
        assert title in (results["name"], "title")  # in one piece
        assert all(len(line) <= width for line in lines)
        text = "\n".join(lines)
        assert "…" not in text
        words = text.replace(",", " ").split()
        assert {"block", "parameters"} <= set(words)  # if only among those left out


@pytest.mark.parametrize("width", [80, 60])
def test_rows_of_finished_stages_fit_narrow_terminals(width):
    display = display_on(terminal=True, width=width)
    display.show_rows("autoencoder 1", [row(1, validation={"top1": 50.0}, improved=True)])
    heading, line = said(display).splitlines()
    assert max(len(heading), len(line)) <= width
    assert {"trained", "depth", "validation", "test", "ensemble"} <= set(heading.split())
    assert "top-5" not in heading
