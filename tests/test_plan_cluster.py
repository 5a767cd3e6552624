"""layerwise plan_cluster: its formulas by hand, and against runs whose bytes and seconds were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import TINY, Outcome, assert_refused, run_script
from layerwise.commands.plan_cluster import Cluster, StageWork, sent_bytes, stage_times
from layerwise.features.store import DiskFeatureStore

ONE_RANK = ("--nodes", "1", "--gpus-per-node", "1")


@pytest.fixture
def plan(tmp_path):
    """Calls the command, which must succeed; returns how it ended and what it wrote."""

    def call(*words: str) -> tuple[Outcome, dict[str, Any]]:
        path = tmp_path / "plan.json"
        tiny = [f"{key}={value}" for key, value in TINY.items()]
        outcome = run_script("plan_cluster", *tiny, "--json", str(path), *words)
        assert outcome.code == 0, outcome.err
        return outcome, json.loads(path.read_text())

    return call


# Against what was measured


@pytest.mark.parametrize(("dtype", "views"), [("float32", 2), ("uint8", 1)])
def test_the_cache_takes_the_bytes_that_were_predicted(train_py, plan, tmp_path, monkeypatch, dtype, views):
    sizes = []
    commit = DiskFeatureStore.commit

    def commit_and_measure(store):
        commit(store)
        sizes.append(bytes_of_features(tmp_path / "cache"))

    monkeypatch.setattr(DiskFeatureStore, "commit", commit_and_measure)
    words = [f"cache.dtype={dtype}", f"cache.views={views}", "J=3", "dataset.validation=0.1", "precision=fp32"]
    run = train_py(*words, "cache=disk", "cache.keep=true", f"cache.dir={tmp_path / 'cache'}")
    assert run.code == 0, run.err
    (one,) = plan(*words, *ONE_RANK)[1]["clusters"]
    assert bytes_of_features(tmp_path / "cache") == one["cache_bytes"]["2"]  # the last depth is kept
    assert sizes == [one["cache_bytes"]["1"], one["cache_bytes"]["1"] + one["cache_bytes"]["2"]]
    assert max(sizes) == one["peak_cache_bytes"]


def bytes_of_features(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.bin"))


ROUNDS, MOST_ROUNDS = 3, 8
"""Runs of each kind, in turns. The quickest epochs are compared: each round brings them nearer to what an idle machine
would take, so a loaded one gets more rounds."""


@pytest.mark.timing
def test_recomputing_costs_the_time_that_its_share_of_the_work_predicts(train_py, plan, tmp_path):
    words = ["k=1", "J=4", "epochs=5", "model.width=64", "model.downsample=[]", "dataset.limit=1000", "precision=fp32"]
    quickest: dict[tuple[str, int], float] = {}
    for turn in range(MOST_ROUNDS):
        for cache in ("none", "memory"):
            folder = tmp_path / cache / str(turn)
            assert train_py(*words, f"cache={cache}", "cache.views=1", f"output_dir={folder}").code == 0
            for line in map(json.loads, next(folder.glob("*/metrics.jsonl")).read_text().splitlines()):
                key = cache, line["stage"]
                quickest[key] = min(quickest.get(key, float("inf")), line["seconds"])
        rate = str(1000 / quickest["none", 1])
        times = plan(*words, *ONE_RANK, "--images-per-second", rate)[1]["clusters"][0]["times"]
        predicted = [time["recompute"] / time["compute"] for time in times[2:]]
        measured = [quickest["none", i] / quickest["memory", i] - 1 for i in (3, 4)]
        if turn + 1 >= ROUNDS and measured == pytest.approx(predicted, rel=0.35):
            break
    assert predicted == pytest.approx([0.5, 1.0], abs=0.02)  # a frozen block costs half of what trains one like it
    assert measured == pytest.approx(predicted, rel=0.35)


# What is counted


def test_the_work_is_that_of_the_summary(train_py, plan):
    """Forward and backward are three times the forward, but for the gradient of x_start, which is not needed."""
    blocks = json.loads(train_py("J=3", summary="json").out)["blocks"]
    for i, (stage, block) in enumerate(zip(plan("J=3")[1]["stages"], blocks, strict=True)):
        assert stage["train_macs"] == 3 * sum(block["macs"].values()) - block["macs"]["block"]
        assert stage["prefix_macs"] == sum(earlier["macs"]["block"] for earlier in blocks[:i])
        assert stage["gradient_bytes"] == 4 * sum(block["parameters"].values())


def test_stages_of_other_plans_are_counted_as_they_are(plan):
    pruned, whole = (plan(*words, "J=3", "cache.views=1")[1] for words in (["plan.prune_to=4"], []))
    titles = ["block 1", "head 1", "block 2", "head 2", "block 3", "head 3"]
    assert [stage["title"] for stage in pruned["stages"]] == titles
    assert pruned["stages"][0]["train_macs"] == whole["stages"][0]["train_macs"]
    assert pruned["stages"][2]["train_macs"] < whole["stages"][1]["train_macs"]  # it reads 4 filters, not 8
    assert pruned["clusters"][0]["cache_bytes"]["1"] * 2 == whole["clusters"][0]["cache_bytes"]["1"]
    tuned = plan("plan=autoencoder", "plan.finetune.epochs=1", "dataset.labelled=0.5")[1]
    assert [stage["samples"] for stage in tuned["stages"]] == [200, 100, 200, 100, 100]
    assert tuned["stages"][-1]["start"] == 0
    outcome, joint = plan("plan=joint", "--images-per-second", "100")
    assert joint["clusters"][0]["cache_bytes"] == {}
    assert "there is nothing to cache" in outcome.out


# The formulas, by hand

ROW = 8 * 4 * 4 * 4
WORKS = [
    StageWork(f"block {j}", j - 1, 4, 1000, train_macs, prefix_macs, gradient_bytes=8_000, row_bytes=ROW * (j > 1))
    for j, train_macs, prefix_macs in ((1, 100, 0), (2, 200, 10), (3, 300, 40))
]
FILLED = 4100
"""Four views of 1000 samples, and 100 that are held out."""

RATE = 500.0
"""Images/s in stage 1, of 100 MACs each: 50,000 MACs/s."""


def times(cluster: Cluster) -> list[dict[str, float]]:
    return stage_times(WORKS, FILLED / cluster.ranks, 64, RATE, cluster)


def test_times_follow_from_one_figure():
    assert (sent_bytes(WORKS[0], 1), sent_bytes(WORKS[0], 4)) == (0, 2 * 3 / 4 * 8_000)
    _, second, third = times(Cluster(nodes=2, gpus_per_node=2, network=1e5))
    assert second["compute"] == pytest.approx(4 * 1000 / 4 / 250)
    assert second["network"] == pytest.approx(4 * 16 * 12_000 / 1e5)  # 16 steps an epoch
    assert second["recompute"] == pytest.approx(1000 * 10 / 50e3)
    assert third["recompute"] == pytest.approx(1000 * 40 / 50e3)
    assert (second["advance"], third["advance"]) == pytest.approx((4100 / 4 * 10 / 50e3, 4100 / 4 * 30 / 50e3))
    assert (second["wait"], third["wait"]) == (0, 0)
    assert second["recomputing"] == pytest.approx(second["compute"] + second["network"] + second["recompute"])
    assert second["caching"] == pytest.approx(second["compute"] + second["network"] + second["advance"])
    assert times(Cluster(1, 8, network=1e5))[0]["network"] == 0  # within a node


def test_a_slow_disk_makes_a_cache_not_pay():
    _, second, third = times(Cluster(nodes=1, gpus_per_node=2, disk=2 * ROW * 100))  # a rank reads 100 and trains 250
    assert second["wait"] == pytest.approx(2000 * (1 / 100 - 1 / 250))
    assert second["advance"] == pytest.approx(4100 / 2 / 100)  # written, from the images
    assert third["advance"] == pytest.approx(4100 / 2 * (1 / 100 + 1 / 100))  # read and written
    assert second["caching"] > second["recomputing"]


def test_a_view_per_epoch_spares_the_blocks_before_the_newest():
    """A pass of one block for each epoch: as much as recomputing one frozen block, and less than two."""
    pays = [time["caching"] < time["recomputing"] for time in times(Cluster(1, 1))]
    assert pays == [False, False, True]


# What is printed and refused


def test_the_tables_hold_the_figures(plan):
    options = ("--images-per-second", "1000", "--network-gbits", "0.8", "--disk-gb-per-second", "0.001")
    outcome, record = plan(*options, "--nodes", "2", "1", "--gpus-per-node", "4")
    assert [cluster["ranks"] for cluster in record["clusters"]] == [8, 4]
    two = record["clusters"][0]
    assert two["times"][0]["network"] == pytest.approx(2 * 4 * two["sent_bytes"][0] / 1e8)  # batches of 64, 2 epochs
    for title in ("MMAC trained", "MB of gradients sent per step", "cache of each rank, 2 views", "2 nodes", "→"):
        assert title in outcome.out


def test_times_are_not_made_up(plan):
    outcome, record = plan()
    assert "no times without --images-per-second" in outcome.out
    assert [cluster["nodes"] for cluster in record["clusters"]] == [1, 2, 4, 8]  # those that divide batches of 64
    assert all(cluster["times"] == [] for cluster in record["clusters"])


def test_imagenet_is_planned_without_its_files():
    outcome = run_script("plan_cluster", "experiment=paper_imagenet_k3", "model.width=4", "model.head_width=4")
    assert outcome.code == 0, outcome.err
    assert "1,281,167 samples, batches of 256" in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "3"], "cannot be divided among 24 ranks (3 nodes of 8 GPUs)"),
        (["--gpus-per-node", "7"], "cannot be divided among 7 ranks"),
        (["--images-per-second", "0"], "--images-per-second: 0 is out of range: use a number above 0"),
        (["model.widht=3"], "unknown key 'model.widht'. Did you mean 'model.width'?"),
    ],
)
def test_bad_input_is_one_message(words, said):
    outcome = run_script("plan_cluster", "dataset=digits", "batch_size=64", *words)
    assert_refused(outcome, said)
    assert outcome.err.count("\n") == 1
