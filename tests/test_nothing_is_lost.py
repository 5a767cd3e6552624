"""What an earlier run or the user has is not deleted, whatever goes wrong."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from helpers.caches import decide_small
from helpers.commands import assert_refused
from helpers.processes import start, wait_for
from helpers.run_folders import numbers, results_of
from layerwise.core.errors import LayerwiseError
from layerwise.core.machine import keep_freed_memory, return_freed_memory
from layerwise.features.cache_plan import in_words
from layerwise.runs.metrics import Metrics
from layerwise.runs.origin import Origin


def test_fresh_deletes_only_when_all_else_has_been_checked(train_py, tmp_path):
    train_py(name="mine")
    before = numbers(results_of(tmp_path / "out" / "mine"))
    for bad in ({"dataset.limit": 10**6}, {"cache": "memory", "cache.budget_gb": 1e-6}):
        assert train_py(name="mine", fresh="true", **bad).code != 0
        assert numbers(results_of(tmp_path / "out" / "mine")) == before


def test_a_folder_that_is_no_run_is_left_alone(train_py, tmp_path):
    thesis = tmp_path / "out" / "docs" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    assert_refused(train_py(name="docs", fresh="true"), str(thesis.parent), "no run folder", "thesis.tex")
    assert thesis.read_text() == "years of work"


def test_fresh_replaces_the_run_of_another_configuration(train_py, tmp_path):
    train_py(name="mine")
    assert train_py(name="mine", seed=1, fresh="true").code == 0
    assert results_of(tmp_path / "out" / "mine")["seed"] == 1


def test_a_second_sigterm_does_not_prevent_the_checkpoint(tmp_path):
    process = start(tmp_path, name="twice", epochs=500)
    metrics = tmp_path / "out" / "twice" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 2, process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Run the same command again" in err
    assert not list(metrics.parent.glob("checkpoints/*.part"))


def test_a_weight_that_the_last_update_made_infinite_is_noticed(train_py):
    outcome = train_py(
        batch_size=200, epochs=1, precision="fp32", **{"optimizer.lr": 1e38, "optimizer.schedule": "constant"}
    )
    assert_refused(outcome, "NaN or infinite", "stage 1", "epoch 1", "step 1")


def test_a_scratch_folder_that_cannot_be_written_is_said_before_training(train_py, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = train_py(cache="disk", **{"cache.dir": tmp_path / "file" / "below"})
    assert_refused(outcome, str(tmp_path / "file"))
    assert not list((tmp_path / "out").iterdir())  # no folder of a run that never began


def test_a_full_disk_under_the_cache_is_cleared_and_loses_no_block(train_py, tmp_path):
    """A bound on the size of files stands for the disk: writes beyond it fail."""
    small = {"cache": "disk", "model.width": 32, "name": "full"}
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, previous[1]))  # block 1 takes 0.1 MB, its outputs 1.6 MB
    try:
        outcome = train_py(**small)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, handler)
    assert_refused(outcome, "train_0_values.bin", "no space left", "intact")
    folder = tmp_path / "out" / "full"
    assert not list(folder.glob("cache/*/*"))
    assert (folder / "checkpoints" / "stage_1.safetensors").exists()
    assert train_py(**small).code == 0
    train_py(**{**small, "name": "whole"})
    assert numbers(results_of(folder)) == numbers(results_of(tmp_path / "out" / "whole"))


def test_a_disk_cache_that_an_earlier_process_left_counts_as_free_space(tmp_path, monkeypatch):
    from layerwise.features import cache_plan

    def decide():
        return decide_small("disk", tmp_path / "cache")

    class Usage:
        free = 60_000

    monkeypatch.setattr(cache_plan.shutil, "disk_usage", lambda path: Usage)
    assert decide().bytes == 100 * 64 * 4
    Usage.free = 60_000 - 25_600
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "x1.bin").write_bytes(b"0" * 25_600)
    assert decide().kind == "disk"


def test_sizes_in_words():
    assert [in_words(n) for n in (12, 20_000, 3_500_000, 12_300_000_000)] == ["12 B", "20 kB", "3.5 MB", "12.3 GB"]


def test_the_allocator_can_be_told():
    assert keep_freed_memory()
    return_freed_memory()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_at_the_metrics_is_one_message_and_closing_them_none():
    metrics = Metrics(Path("/dev/full"), Origin({}, {}))
    with pytest.raises(LayerwiseError, match="no space left"):
        metrics.append({"stage": 1, "epoch": 1})
    metrics.close()
