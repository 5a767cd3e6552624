"""Two gloo processes give what one gives, whatever they train; and what goes wrong ends both."""

from __future__ import annotations

import json
import math
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import ROOT, TINY, arguments
from helpers.outside import OWN
from helpers.processes import Command, wait_for
from helpers.run_folders import metrics_of, results_of
from layerwise.core import distributed
from layerwise.core.distributed import read_place
from layerwise.core.errors import LaunchError
from layerwise.runs import folder as run_folder
from layerwise.training.block_parallel import cuts

SIMULTANEOUS = {"plan": "simultaneous", "J": 3}
BLOCKS = {**SIMULTANEOUS, "distributed.parallel": "blocks"}
GROUPS = {"optimizer.shift_lr": 4, "optimizer.norm_decay": "false"}
"""Groups of parameters are in another order than the parameters of the network."""
RUNS: dict[str, dict[str, Any]] = {
    "greedy": {"J": 3},
    "reused": {"J": 4, "plan.reuse": "out/greedy"},
    "pretrained": {"J": 3, "model.pretrained": "out/greedy", "plan.frozen_blocks": 2},
    "recomputed": {"cache": "none"},
    "in-parts": {"accumulate": 16, "optimizer.clip_norm": 0.5, "cache": "none"},
    "on-disk": {"cache": "disk"},
    "own-norms": {"cache": "none", "distributed.sync_batchnorm": "false"},
    "one-view": {"cache": "memory", "cache.views": 1},
    "joint": {"plan": "joint", "optimizer.clip_norm": 0.5, "evaluation.gradients": "true"},
    "simultaneous": SIMULTANEOUS,
    "blocks": BLOCKS,
    "whitened": {"model.whiten_input": "true", "model.activation": "gelu", "model.initialisation": "dirac"},
    "averaged": {"optimizer.average": 0.9, "evaluation.every": 1},
    "averaged-blocks": {**BLOCKS, "optimizer.average": 0.9},
    "carried": {"plan.head": "carried", "model.downsample": "[]"},
    "frozen": {"plan.head": "frozen", "model.downsample": "[]"},
    "warm-start": {"plan.warm_start": "true", "model.downsample": "[]"},
    "pairs": {"plan.blocks_per_stage": 2, "J": 4, "plan.finetune.epochs": 1},
    "pruned": {"plan.prune_to": 5, "plan.prune_epochs": 1},
    "outside": OWN,
    "penalised": {"objective.l2": 1e-3, "optimizer": "adam", "optimizer.lr": 1e-3},
    "best": {"checkpoint.keep": "best", "dataset.validation": 0.2, "epochs": 3},
    "best-blocks": {**BLOCKS, "checkpoint.keep": "best", "dataset.folds": 4},
    "mixed": {
        "dataset.mixup": 0.4,
        "dataset.cutmix": 1,
        "dataset.erasing": 0.5,
        "dataset.randaugment": 9,
        "cache": "memory",
    },
    "mixed-blocks": {**BLOCKS, "dataset.mixup": 0.4},
    "held-out": {"dataset.validation": 0.2, "evaluation.every": 1, "evaluation.train": "true", "plan.patience": 1},
    "searched": {"dataset.validation": 0.2, "plan.search_fraction": 0.5, "batch_size": 32},
    "autoencoder": {
        "model": "mlp",
        "k": 1,
        "plan": "autoencoder",
        "dataset.labelled": 0.5,
        "model.batch_norm": "true",
        **dict.fromkeys(["model.width", "model.head_width", "model.downsample"]),
    },
    "timm": {
        "model": "timm",
        "model.name": "test_resnet",
        "plan": "joint",
        "J": None,
        "plan.epochs": 1,
        **dict.fromkeys(["model.width", "model.head_width", "model.downsample"]),
    },
}
"""Runs in float32 with synchronised batch norms, whose losses must be those of one process."""

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "uneven": ({"batch_size": 65}, ["batch_size=65", "by 2 processes", "64 or 66"]),
    "few-tests": ({"dataset.limit_test": 1}, ["2 processes are more than the 1 test samples"]),
    "parts": ({"accumulate": 64}, ["accumulate=64", "64 equal parts in each of 2 processes", "batch_size=128"]),
    "last-batch": ({"dataset.limit": 65}, ["last batch of 1", "fewer than the 2 processes", "dataset.limit=64"]),
    "one-block": (
        {"distributed.parallel": "blocks", "plan": "simultaneous", "J": 1, "model.downsample": "[]"},
        ["1 group(s) of blocks"],
    ),
    "no-data": ({"dataset": "cifar10", "dataset.root": "/proc/nowhere"}, ["/proc/nowhere"]),
}
"""What two processes cannot train, and words of the message."""

TOLERANCES = {"blocks": 0.0, "averaged-blocks": 0.0, "best-blocks": 0.0, "mixed-blocks": 0.0, "warm-start": 1e-3}
"""Relative. A block that starts as the identity has many values at the edge of its ReLU, where rounding decides."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    """Where one process (1) and two processes (2) have trained all runs."""
    found = {}
    for n in (1, 2):
        folder = tmp_path_factory.mktemp(f"ranks{n}")
        refused = {name: overrides for name, (overrides, _) in REFUSED.items()} if n == 2 else {}
        jobs = {
            name: arguments(folder, progress="off", precision="fp32", name=name, **overrides)
            for name, overrides in {**RUNS, **refused}.items()
        }
        (folder / "jobs.json").write_text(json.dumps(jobs))
        worker = ROOT / "tests" / "helpers" / "rank_worker.py"
        processes = start_ranks(worker, [str(folder / "jobs.json")], n, folder)
        for process in processes:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
        found[n] = folder
    return found


def start_ranks(script: Path, words: list[str], n: int, folder: Path) -> list[Command]:
    """Starts a script in n processes, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
    return [Command(script, words, folder, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(n)]


def start_training(folder: Path, *more: str, **overrides: Any) -> list[Command]:
    """Two processes of train.py."""
    return start_ranks(ROOT / "train.py", arguments(folder, *more, **overrides), 2, folder)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in metrics_of(folder)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the processes that are started: how sums are divided among threads changes their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def reported_steps(folder: Path) -> tuple[int, int]:
    """The stage that a run was in when it reported last, and the number of its steps then."""
    last = metrics_of(folder)[-1]
    return last["stage"], last["epoch"] * math.ceil(TINY["dataset.limit"] / TINY["batch_size"])


def saved_steps(folder: Path) -> tuple[int, int]:
    """Those of the newest checkpoint of a stage in training."""
    saved = [re.fullmatch(r"stage_(\d+)_step_(\d+)", path.stem) for path in (folder / "checkpoints").glob("*")]
    return max((int(match[1]), int(match[2])) for match in saved if match)


@pytest.mark.parametrize("name", [name for name in RUNS if name != "own-norms"])
def test_two_processes_have_the_losses_of_one(folders, name):
    one, two = (folders[n] / "out" / name for n in (1, 2))
    first, second = losses(one), losses(two)
    assert len(first) > 0
    tolerance = TOLERANCES.get(name, 1e-6)
    assert second == pytest.approx(first, rel=tolerance)
    rows = [results_of(folder)["blocks"] for folder in (one, two)]
    assert [row["block"] for row in rows[0]] == [row["block"] for row in rows[1]]
    for a, b in zip(*rows, strict=True):
        assert b.get("kept_epoch") == a.get("kept_epoch")
        for split in {"test", "validation"} & set(a):
            assert b[split]["loss"] == pytest.approx(a[split]["loss"], rel=max(tolerance, 1e-5))
    assert [path.name for path in (folders[2] / "out").iterdir()].count(name) == 1


def test_blocks_in_parallel_say_how_busy_each_process_was(folders):
    for row in results_of(folders[2] / "out" / "blocks")["blocks"]:
        shares = [process["blocks"] for process in row["processes"]]
        assert [shares[0][0], shares[-1][1]] == [1, 3]
        assert shares[0][1] + 1 == shares[1][0]
        assert all(0 < process["utilisation"] <= 1 for process in row["processes"])


def test_each_process_holds_its_part_of_a_cache(folders):
    whole, part = (results_of(folders[n] / "out" / "greedy")["cache"] for n in (1, 2))
    assert (part["kind"], part["views"], part["exact"]) == (whole["kind"], whole["views"], True)
    assert part["bytes"] * 2 == whole["bytes"]


def test_norms_of_their_own_see_half_the_batch(folders):
    own, synced = (losses(folders[2] / "out" / name) for name in ("own-norms", "recomputed"))
    assert own == pytest.approx(synced, rel=0.1)
    assert own != pytest.approx(synced, rel=1e-4)
    assert losses(folders[1] / "out" / "own-norms") == losses(folders[1] / "out" / "recomputed")


@pytest.mark.parametrize("options", [{}, BLOCKS, {**BLOCKS, **GROUPS}], ids=["data", "blocks", "blocks, groups"])
def test_a_run_that_two_processes_began_goes_on_with_one(train_py, tmp_path, one_thread, options):
    options = {"epochs": 25, "precision": "fp32", "cache": "disk", **options}
    assert train_py(name="whole", **options).code == 0
    folder = tmp_path / "out" / "begun"
    processes = start_training(tmp_path, name="begun", progress="off", **options)
    wait_for(lambda: (folder / "metrics.jsonl").exists() and len(losses(folder)) >= 3, processes[0])
    processes[1].send_signal(signal.SIGUSR1)  # one is told, and both stop
    messages = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [128 + signal.SIGUSR1] * 2
    assert "stopped by SIGUSR1" in messages[0]
    assert "stopped by" not in messages[1]  # it is said once
    assert results_of(folder)["status"] == "interrupted"
    assert saved_steps(folder) >= reported_steps(folder)  # no finished epoch is lost
    saved = len(losses(folder))
    assert train_py(name="begun", **options).code == 0
    assert not list(folder.glob("cache/rank_*_of_2"))
    whole = losses(tmp_path / "out" / "whole")
    assert len(losses(folder)) == len(whole) > saved
    # Sums of gradients round differently in two processes, and training amplifies that from step to step
    exact = "plan" in options
    assert losses(folder)[: saved + 1] == pytest.approx(whole[: saved + 1], rel=0.0 if exact else 1e-3)
    assert losses(folder)[0] == pytest.approx(whole[0], rel=1e-6)
    if exact:
        assert losses(folder) == whole


def test_a_process_that_is_killed_ends_the_others(tmp_path):
    folder = tmp_path / "out" / "killed"
    processes = start_training(tmp_path, name="killed", progress="off", epochs=500)
    wait_for(lambda: (folder / "metrics.jsonl").exists() and len(losses(folder)) >= 2, processes[0])
    processes[1].kill()
    _, err = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 4
    assert "lost the connection" in err
    assert "Traceback" not in err
    assert results_of(folder)["status"] == "failed"


@pytest.mark.parametrize("name", REFUSED)
def test_what_processes_cannot_share_is_refused_by_all(folders, name):
    words = REFUSED[name][1]
    for rank in range(2):
        message = json.loads((folders[2] / f"outcomes_{rank}.json").read_text())[name]
        assert all(word in message for word in words), message
    assert not (folders[2] / "out" / name).exists()


def test_an_error_of_all_is_said_once(tmp_path):
    processes = start_training(tmp_path, batch_size=65)
    messages = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], messages
    assert "64 or 66" in messages[0]
    assert messages[0].count("error: ") == 1
    assert "error" not in messages[1]


def test_a_meeting_that_nobody_comes_to_is_given_up_with_advice(tmp_path):
    (process, other) = start_training(tmp_path, **{"distributed.timeout": 4})
    other.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "did not meet all 2 processes" in err
    assert "distributed.timeout" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "2"}, ["WORLD_SIZE=2 is set, but RANK is not", "torchrun"]),
        ({"RANK": "0"}, ["RANK=0 is set, but WORLD_SIZE is not"]),
        ({"RANK": "2", "WORLD_SIZE": "2"}, ["RANK=2", "0 … 1"]),
        ({"RANK": "a", "WORLD_SIZE": "2"}, ["'a'"]),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ["MASTER_ADDR is not"]),
    ],
)
def test_a_launch_that_says_half_of_it_is_refused(environment, words):
    with pytest.raises(LaunchError) as refused:
        read_place(environment)
    assert all(word in str(refused.value) for word in words)


def test_a_process_that_was_not_launched_is_alone():
    assert read_place({}) == read_place({"WORLD_SIZE": "1"}) == distributed.ALONE


def test_a_cache_in_a_run_folder_that_is_not_shared_is_refused(train_py, monkeypatch):
    """As on a machine that does not see the main process's folder: there the lock is missing."""
    monkeypatch.setattr(run_folder, "LOCK", ".lock-of-another-machine")
    monkeypatch.setattr(run_folder.RunFolder, "_open", lambda folder: folder.path.mkdir(parents=True))
    outcome = train_py(cache="disk")
    assert outcome.code == 2
    assert "does not see" in outcome.err
    assert "cache.dir=FOLDER" in outcome.err


@pytest.mark.parametrize(
    ("costs", "ends", "n", "expected"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 4], 2, [(0, 2), (2, 4)]),
        ([4, 1, 1, 1], [1, 2, 3, 4], 2, [(0, 1), (1, 4)]),
        ([1, 1, 1, 9], [1, 2, 3, 4], 3, [(0, 1), (1, 3), (3, 4)]),
        ([1, 1, 1, 1, 1], [2, 4, 5], 2, [(0, 2), (2, 5)]),
        ([5], [1], 1, [(0, 1)]),
    ],
)
def test_blocks_are_shared_out_by_their_cost(costs, ends, n, expected):
    found = cuts(costs, ends, n)
    dearest = [max(sum(costs[start:stop]) for start, stop in shares) for shares in (found, expected)]
    assert dearest[0] == dearest[1]
    assert [found[0][0], found[-1][1], len(found)] == [0, ends[-1], n]
    assert all(stop in ends for _, stop in found)


def test_a_run_that_diverges_says_so_once_and_is_recorded_before_the_launcher_ends_all(tmp_path):
    processes = start_training(tmp_path, name="diverged", progress="off", report="true", **{"optimizer.lr": 1e12})
    while all(process.poll() is None for process in processes):
        time.sleep(0.01)
    for process in processes:  # as torchrun does when the first one has failed
        process.send_signal(signal.SIGTERM)
    messages = "".join(process.communicate()[1] for process in processes)
    assert messages.count("error: the loss became NaN or infinite in stage 1, epoch 1") == 1
    assert results_of(tmp_path / "out" / "diverged")["status"] == "failed"
    assert (tmp_path / "out" / "diverged" / "report.html").exists()


SHORT = {"J": 1, "epochs": 1, "model.downsample": "[]"}
DIVERGES = "job #0 (optimizer.lr=1000000000000.0) failed: the loss became NaN or infinite"


@pytest.mark.parametrize(
    ("options", "message", "statuses"),
    [
        ({**SHORT, "k": "2,0,1"}, "job #1 (k=0) failed: k=0: must be 1 or more", ["completed", "completed"]),
        ({"optimizer.lr": "1e12,0.05"}, DIVERGES, ["completed", "failed"]),
        (
            {**BLOCKS, "optimizer.lr": "1e12,0.05"},
            *(DIVERGES, ["completed", "failed"]),
        ),
    ],
    ids=["refused", "diverges", "blocks diverge"],
)
def test_a_multirun_of_two_processes_makes_a_folder_a_job_and_goes_on(tmp_path, options, message, statuses):
    processes = start_training(tmp_path, "--multirun", progress="off", **options)
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    assert message in said[0]
    assert said[1] == ""
    assert sorted(results_of(path.parent)["status"] for path in tmp_path.glob("out/*/results.json")) == statuses


def test_the_norms_of_gradients_are_those_of_the_whole_batch(folders):
    one, two = ([line["gradients"] for line in metrics_of(folders[n] / "out" / "joint")] for n in (1, 2))
    assert one[0].keys() == {"block_1", "block_2", "head_2"}
    for alone, shared in zip(one, two, strict=True):
        assert shared == pytest.approx(alone, rel=1e-3)
