"""scripts/plan_cluster.py: its formulas against runs whose bytes and seconds were measured."""

from __future__ import annotations

import json
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from helpers.commands import ROOT, TINY, Outcome, run_script
from helpers.gradient_worker import count_gradient_bytes
from helpers.run_folders import only_run, results_of
from layerwise.analysis.cluster_costs import (
    Cluster,
    Workload,
    caching_from,
    gradient_traffic,
    norm_traffic,
    rank_peak_bytes,
    rank_store_bytes,
    speed_from,
    stage_times,
    why_not_shared,
)
from layerwise.analysis.stage_work import StageWork
from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.store import DiskFeatureStore
from layerwise.training.plan import greedy

TINY_WORDS = [f"{key}={value}" for key, value in TINY.items()]
ONE_RANK = ("--nodes", "1", "--gpus-per-node", "1")
FLOAT32 = FeatureCodec(FeatureDtype.float32)


@pytest.fixture
def plan(tmp_path):
    """Calls the script; gives how it ended and what it wrote."""

    def call(*words: str, base: list[str] = TINY_WORDS) -> tuple[Outcome, dict[str, Any]]:
        path = tmp_path / "plan.json"
        path.unlink(missing_ok=True)
        outcome = run_script("plan_cluster", *base, "--json", str(path), *words)
        return outcome, json.loads(path.read_text()) if path.exists() else {}

    return call


def planned(plan, *words: str) -> dict[str, Any]:
    outcome, record = plan(*words)
    assert outcome.code == 0, outcome.err
    return record


# Against what was measured


@pytest.mark.parametrize(("dtype", "views"), [("float32", 2), ("bfloat16", 1), ("uint8", 2)])
def test_the_cache_takes_the_bytes_that_were_predicted(train_py, plan, tmp_path, monkeypatch, dtype, views):
    sizes = []
    commit = DiskFeatureStore.commit

    def commit_and_measure(store):
        commit(store)
        sizes.append(bytes_of_features(tmp_path / "cache"))

    monkeypatch.setattr(DiskFeatureStore, "commit", commit_and_measure)
    words = [f"cache.dtype={dtype}", "J=3", "dataset.validation=0.1", "precision=fp32"]
    run = train_py(*words, "cache=disk", "cache.keep=true", f"cache.views={views}", f"cache.dir={tmp_path / 'cache'}")
    assert run.code == 0, run.err
    record = planned(plan, *words, *ONE_RANK, "--views", str(views))
    (cache,) = [cache for cache in record["caches"] if cache["dtype"] == dtype]
    assert bytes_of_features(tmp_path / "cache") == cache["bytes"]["2"]  # the last depth is kept
    assert sizes == [cache["bytes"]["1"], cache["bytes"]["1"] + cache["bytes"]["2"]]
    assert max(sizes) == cache["peak_bytes"]


def bytes_of_features(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.bin"))


def test_ddp_reduces_the_gradient_bytes_that_were_predicted(plan, tmp_path):
    configs, predicted, sent = [], [], []
    for words in (["k=3"], ["plan=simultaneous"]):
        record = planned(plan, *words, "--nodes", "1", "--gpus-per-node", "2")
        predicted += [stage["gradient_bytes"] for stage in record["stages"]]
        sent += [row["gradient_bytes"] for row in record["traffic"][0]["stages"]]
        configs.append(configuration(*words))
    torch.multiprocessing.spawn(count_gradient_bytes, (2, configs, tmp_path), nprocs=2)
    for rank in range(2):
        assert [int(line) for line in (tmp_path / str(rank)).read_text().split()] == predicted
    assert sent == predicted  # each of two ranks passes on half of the gradient to sum it and half to spread it


def configuration(*words: str) -> ResolvedConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(parse(compose("train", [*TINY_WORDS, *words])))


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
        stages = planned(plan, *words, *ONE_RANK, "--images-per-second", rate)["times"][0]["stages"]
        predicted = [stage["recompute"] / stage["compute"] for stage in stages[2:]]
        measured = [quickest["none", i] / quickest["memory", i] - 1 for i in (3, 4)]
        if turn + 1 >= ROUNDS and measured == pytest.approx(predicted, rel=0.35):
            break
    assert predicted == pytest.approx([0.5, 1.0], abs=0.02)  # a frozen block costs half of what trains one like it
    assert measured == pytest.approx(predicted, rel=0.35)


def test_the_figures_of_a_finished_run_can_be_given(train_py, plan, tmp_path):
    """The rates of results.json go in as they are, and give the run's seconds back."""
    assert train_py("cache=memory", "precision=fp32").code == 0
    rows = results_of(only_run(tmp_path))["blocks"]
    rates = ",".join(str(row["images_per_second"]) for row in rows)
    record = planned(plan, "precision=fp32", *ONE_RANK, "--images-per-second", rates)
    for stage, row in zip(record["times"][-1]["stages"], rows, strict=True):
        assert stage["compute"] == pytest.approx(row["seconds"]["train"], rel=1e-6)


# What is counted


def test_the_work_is_that_of_the_summary(train_py, plan):
    """Forward and backward are three times the forward, but for the gradient of x_start, which nobody wants."""
    record = planned(plan, "J=3")
    blocks = json.loads(train_py("J=3", summary="json").out)["blocks"]
    for i, (stage, block) in enumerate(zip(record["stages"], blocks, strict=True)):
        assert stage["train_macs"] == 3 * sum(block["macs"].values()) - block["macs"]["block"]
        assert stage["prefix_macs"] == sum(earlier["macs"]["block"] for earlier in blocks[:i])
        assert stage["gradient_bytes"] == 4 * sum(block["parameters"].values())
    assert [stage["norm_channels"] for stage in record["stages"]] == [[8, 8, 8], [16, 16, 16], [16, 16, 16]]


def test_an_end_to_end_run_has_nothing_to_cache(plan):
    outcome, record = plan("plan=joint", "--images-per-second", "100")
    assert outcome.code == 0, outcome.err
    assert record["caches"] == []
    assert "there is nothing to cache" in outcome.out
    assert [(stage["start"], stage["stop"]) for stage in record["stages"]] == [(0, 2)]


def test_stages_of_other_plans_are_counted_as_they_are(plan):
    pruned = planned(plan, "plan.prune_to=4", "J=3")
    whole = planned(plan, "J=3")
    titles = ["block 1", "head 1", "block 2", "head 2", "block 3", "head 3"]
    assert [stage["stage"] for stage in pruned["stages"]] == titles
    assert pruned["stages"][0]["train_macs"] == whole["stages"][0]["train_macs"]
    assert pruned["stages"][2]["train_macs"] < whole["stages"][1]["train_macs"]  # it reads 4 filters, not 8
    assert pruned["caches"][0]["bytes"]["1"] * 2 == whole["caches"][0]["bytes"]["1"]

    tuned = planned(plan, "plan=autoencoder", "plan.finetune.epochs=1", "dataset.labelled=0.5")
    assert [stage["samples"] for stage in tuned["stages"]] == [200, 100, 200, 100, 100]
    assert tuned["stages"][-1]["start"] == 0


def test_imagenet_is_described_without_its_files(plan):
    words = ["dataset=imagenet", "k=3", "batch_size=256", "model.width=4", "model.head_width=4", "dataset.limit=null"]
    outcome, record = plan(*words, "J=2", "model.downsample=[2]", "dataset.limit_test=null")
    assert outcome.code == 0, outcome.err
    assert (record["samples"], record["held_out"]) == (1_281_167, 50_000)
    assert record["nodes"] == [1, 2, 4, 8, 16]
    few = "leaves a last batch of 143 of the 1281167 samples, fewer than 256 ranks (32 node(s) of 8 GPU(s))"
    assert f"32 nodes are left out: batch_size=256: {few}. Use dataset.limit=1281024," in outcome.out
    many = "512 ranks (64 node(s) of 8 GPU(s)) cannot share it equally. Use batch_size=512, or fewer ranks."
    assert f"64 nodes are left out: batch_size=256: {many}" in outcome.out


# The formulas, by hand

WORK = Workload(
    stages=tuple(
        StageWork(stage, samples=1000, train_macs=macs, gradient_bytes=8_000, norm_channels=(10, 20))
        for stage, macs in zip(greedy(3, epochs=4), (100, 200, 300), strict=True)
    ),
    block_macs=(10, 30, 60),
    shapes=((8, 4, 4), (8, 4, 4), (16, 2, 2)),
    images=1000,
    held_out=100,
    batch_size=64,
)


def test_traffic_of_a_ring():
    work = WORK.stages[0]
    assert gradient_traffic(work, 1) == 0
    assert gradient_traffic(work, 4) == 2 * 3 / 4 * 8_000
    assert norm_traffic(work, 4) == 3 * (21 + 41) * 4 + 2 * 3 / 4 * (20 + 40) * 4


def test_a_rank_holds_its_part_of_the_cache():
    row = 8 * 4 * 4 * 4
    assert rank_store_bytes(WORK, 1, views=4, codec=FLOAT32, ranks=16) == (ceil(1000 / 16) * 4 + ceil(100 / 16)) * row
    assert rank_peak_bytes(WORK, views=1, codec=FLOAT32, ranks=1) == 2 * 1100 * row
    assert WORK.cached_depths == [1, 2]


def test_times_follow_from_one_figure():
    speed = speed_from([500.0], WORK)  # 50,000 MAC/s
    assert speed.stages == (500, 250, pytest.approx(500 / 3))
    assert speed.block_seconds == pytest.approx((10 / 50e3, 30 / 50e3, 60 / 50e3))
    cluster = Cluster(nodes=2, gpus_per_node=2, network=1e5)
    second, third = stage_times(WORK, speed, cluster, views=1, codec=FLOAT32)[1:]
    assert second.compute == pytest.approx(4 * 1000 / 4 / 250)
    assert second.network == pytest.approx(
        4 * 16 * (12_000 + norm_traffic(WORK.stages[1], 4)) / 1e5
    )  # 16 steps an epoch
    assert second.recompute == pytest.approx(1000 * 10 / 50e3)
    assert third.recompute == pytest.approx(1000 * 40 / 50e3)
    assert (second.advance, third.advance) == pytest.approx((1100 / 4 * 10 / 50e3, 1100 / 4 * 30 / 50e3))
    assert (second.wait, third.wait) == (0, 0)
    assert second.recomputing == pytest.approx(second.compute + second.network + second.recompute)
    assert second.cache_pays
    assert third.cache_pays


def test_one_node_does_not_wait_for_the_network():
    (first, *_) = stage_times(WORK, speed_from([500.0], WORK), Cluster(1, 8, network=1e5), views=1, codec=FLOAT32)
    assert first.network == 0


def test_a_slow_disk_makes_a_cache_not_pay():
    speed, row = speed_from([500.0], WORK), 8 * 4 * 4 * 4
    slow = Cluster(nodes=1, gpus_per_node=2, disk=2 * row * 100)  # a rank reads 100 images/s and trains 250
    times = stage_times(WORK, speed, slow, views=4, codec=FLOAT32)
    assert times[1].wait == pytest.approx(2000 * (1 / 100 - 1 / 250))
    assert times[1].advance == pytest.approx((4 * 1000 + 100) / 2 / 100)  # it is written, from the images
    assert times[2].advance == pytest.approx((4 * 1000 + 100) / 2 * (1 / 100 + 1 / 100))  # read and written
    assert not times[1].cache_pays
    late = caching_from(2, times, WORK, speed, slow, views=4, codec=FLOAT32)
    filled_from_images = (4 * 1000 + 100) / 2 / 100
    expected = times[0].recomputing + times[1].recomputing + times[2].compute + times[2].wait + filled_from_images
    assert late == pytest.approx(expected)
    all_along = caching_from(1, times, WORK, speed, slow, views=4, codec=FLOAT32)
    assert all_along == pytest.approx(times[0].recomputing + times[1].caching + times[2].caching)


def test_a_view_per_epoch_spares_the_blocks_before_the_newest():
    """A pass of one block for each epoch: as much as recomputing one frozen block, and less than two."""
    times = stage_times(WORK, speed_from([500.0], WORK), Cluster(1, 1), views=4, codec=FLOAT32)
    assert [time.cache_pays for time in times] == [False, False, True]


def test_figures_for_each_stage_are_taken_as_they_are():
    speed = speed_from([500.0, 100.0, 50.0], WORK)
    assert speed.stages == (500, 100, 50)
    assert speed.block_seconds == pytest.approx((10 / 50e3, 30 / 20e3, 60 / 15e3))


@pytest.mark.parametrize(
    ("batch_size", "ranks", "said"),
    [
        (64, 8, None),
        (100, 8, "batch_size=100: 8 ranks (1 node(s) of 8 GPU(s)) cannot share it equally. Use batch_size=96 or 104,"),
        (4, 8, "Use batch_size=8, or fewer ranks"),
        (999, 600, "Use batch_size=600, or fewer ranks"),
        (64, 1001, "cannot share it equally. Use fewer ranks"),
        (111, 3, "leaves a last batch of 1 of the 1000 samples, fewer than 3 ranks (1 node(s) of 3 GPU(s)). "
         "Use dataset.limit=999, another batch_size,"),
    ],
)  # fmt: skip
def test_batches_that_ranks_cannot_share(batch_size, ranks, said):
    found = why_not_shared(replace(WORK, batch_size=batch_size), Cluster(1, ranks))
    assert (said is None) == (found is None)
    assert (said or "") in (found or "")


# What is printed and refused


def test_what_was_not_given_is_named_and_not_made_up(plan):
    outcome, record = plan()
    assert outcome.code == 0, outcome.err
    for option in ("--images-per-second", "--network-gbits", "--disk-gb-per-second", "--memory-gb"):
        assert f"{option} is not given" in outcome.out
    assert record["times"] == []
    assert all(stage["images_per_second"] is None for stage in record["stages"])
    assert all(row["seconds"] is None for traffic in record["traffic"] for row in traffic["stages"])
    assert "pay?" not in outcome.out


def test_the_tables_hold_the_figures(plan):
    options = ("--images-per-second", "1000", "--network-gbits", "0.8", "--disk-gb-per-second", "0.001")
    outcome, record = plan(*options, "--memory-gb", "0.0001", "--nodes", "2,1", "--views", "1,2", "dataset.limit=256")
    assert outcome.code == 0, outcome.err
    assert "is not given" not in outcome.out
    assert "derived from it by multiply-accumulates" in outcome.out
    assert [(time["nodes"], time["views"]) for time in record["times"]] == [(1, 1), (2, 1), (1, 2), (2, 2)]
    two = record["traffic"][1]["stages"][0]
    assert two["seconds"] == pytest.approx((two["gradient_bytes"] + two["norm_bytes"]) / 1e8)
    step = 64 / 16 / 1000
    assert two["share"] == pytest.approx(two["seconds"] / (two["seconds"] + step))
    for cache in record["caches"]:
        assert cache["fits"] == (cache["peak_bytes"] <= 1e5)
    time, waiting = record["times"][0], record["times"][0]["stages"][1]
    sample = 8 * 8 * 8 * {"float32": 4, "bfloat16": 2}[record["cache_dtype"]]  # x_1 has 8 channels of 8×8
    assert waiting["read_bytes_per_second"] == pytest.approx(record["stages"][1]["images_per_second"] * 8 * sample)
    assert waiting["pays"] is (waiting["caching"] < waiting["recomputing"])
    assert ("none is best" in outcome.out) == (time["pays_from"] is None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images-per-second", "0"], "--images-per-second 0: must be more than 0"),
        (["--images-per-second", "nan"], "--images-per-second nan: must be more than 0"),
        (["--images-per-second", "fast"], "--images-per-second fast: 'fast' is not a number"),
        (["--images-per-second", "1,2,3"], "--images-per-second: 3 figures, but the run has 2 stage(s)"),
        (["--network-gbits", "-1"], "--network-gbits -1: must be more than 0"),
        (["--disk-gb-per-second", "1,2"], "--disk-gb-per-second 1,2: must be one number"),
        (["--memory-gb", "inf"], "--memory-gb inf: must be more than 0"),
        (["--nodes", "0"], "--nodes 0: must be more than 0"),
        (["--nodes", "1.5"], "--nodes 1.5: must be 1 or more, and whole"),
        (["--gpus-per-node", "0"], "--gpus-per-node 0: must be more than 0"),
        (["--gpus-per-node", "1,2"], "--gpus-per-node 1,2: must be one number"),
        (["--views", "some"], "--views some: 'some' is not a number"),
        (["--nodes", "3"], "batch_size=64: 24 ranks (3 node(s) of 8 GPU(s)) cannot share it"),
        (["batch_size=100"], "Use batch_size=96 or 104, or fewer ranks"),
        (["--nodes", "99"], "cannot share it equally. Use fewer ranks"),
        (["epoch=1"], "unknown key 'epoch'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(plan, words, said):
    outcome, record = plan(*words)
    assert outcome.code == 2
    assert record == {}
    (message,) = outcome.err.splitlines()
    assert message.startswith("error: ")
    assert said in message


def test_help_explains_the_options():
    outcome = run_script("plan_cluster", "--help")
    assert outcome.code == 0
    for word in ("--images-per-second", "--nodes", "--views", "--network-gbits", "--json", "KEY=VALUE", "results.json"):
        assert word in outcome.out
