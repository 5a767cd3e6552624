"""Estimates a run on many GPUs: time per stage, cache size, network traffic, and whether a cache pays.

    layerwise plan_cluster experiment=paper_imagenet_k3 precision=bf16
    layerwise plan_cluster --images-per-second R --network-gbits 200 experiment=paper_imagenet_k3 precision=bf16

The words KEY=VALUE are arguments of layerwise train; nothing is trained and no data are read. Measure the speed on one
GPU, with the batch that each rank will have: `images_per_second` of block 1 in results.json of a short run, such as

    layerwise train experiment=paper_imagenet_k3 J=1 epochs=1 batch_size=32 dataset.limit=50000

All times follow from it by multiply-accumulates. The cache is that of cache.views and cache.dtype. Communication is not
assumed to overlap with computing. layerwise/analysis/cluster.py lists the other assumptions. precision=auto is the
format of this machine: name the one of the GPUs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from layerwise.analysis.cluster import (
    Cluster,
    StageWork,
    Workload,
    gradient_traffic,
    norm_traffic,
    rank_cache_bytes,
    rank_peak_bytes,
    stage_times,
    workload,
)
from layerwise.commands.arguments import Parser, at_least, named
from layerwise.commands.compose import configuration
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.core.precision import choose_device, choose_precision
from layerwise.features.cache_plan import in_words
from layerwise.reporting.tables import numbers_table, show

NODES = [1, 2, 4, 8, 16, 32, 64]
Record = dict[str, Any]


def main(words: Sequence[str]) -> None:
    parser = Parser("plan_cluster", __doc__)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="arguments of layerwise train")
    parser.add_argument(
        "--images-per-second", type=positive, metavar="R", help="of one GPU in stage 1; without it no times are given"
    )
    parser.add_argument(
        "--nodes", type=at_least(1), nargs="+", metavar="N", help="default: those of 1 2 4 … 64 that divide the batch"
    )
    parser.add_argument("--gpus-per-node", type=at_least(1), default=8, metavar="N", help="default: 8")
    parser.add_argument(
        "--network-gbits", type=positive, default=math.inf, metavar="GBIT/S", help="of a node (default: unlimited)"
    )
    parser.add_argument(
        "--disk-gb-per-second", type=positive, default=math.inf, metavar="GB/S", help="of a node (default: unlimited)"
    )
    parser.add_argument("--json", type=named, metavar="FILE", help="also write the figures there, in bytes and seconds")
    options = parser.parse_intermixed_args(words)
    record = plan(options)
    for table in tables(record):
        show(table)
    if options.json:
        write_atomically(options.json, json.dumps(record, indent=1) + "\n", kept="The tables above are complete.")


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is out of range: use a number above 0")
    return value


def plan(options: argparse.Namespace) -> Record:
    """All figures, in bytes and seconds.

    Raises:
        LayerwiseError: layerwise train would refuse the configuration, or the ranks cannot share its batches.
    """
    config = configuration(options.words)
    precision = choose_precision(config.precision, choose_device(config.device))
    load = workload(config, precision)
    network, disk = options.network_gbits * 1e9 / 8, options.disk_gb_per_second * 1e9
    clusters = [Cluster(n, options.gpus_per_node, network, disk) for n in options.nodes or NODES]
    able = [cluster for cluster in clusters if load.batch_size % cluster.ranks == 0]
    if not able or (options.nodes and able != clusters):
        wrong = next(cluster for cluster in clusters if cluster not in able)
        raise LayerwiseError(
            f"batch_size={load.batch_size}: cannot be divided among {wrong.ranks} ranks ({wrong.nodes} nodes of "
            f"{wrong.gpus_per_node} GPUs). Use a multiple of {wrong.ranks}, or fewer --nodes or --gpus-per-node."
        )
    return {
        "title": f"{config.model.name} k={config.k} J={config.J}, {config.plan.name.value}; "
        f"{config.dataset.name}: {load.images:,} samples, batches of {load.batch_size}; {precision.name}",
        "cache": f"{load.views} views in {load.codec.dtype.value}",
        "stages": [of_stage(load, work) for work in load.stages],
        "clusters": [on_cluster(load, cluster, options.images_per_second) for cluster in able],
    }


def of_stage(load: Workload, work: StageWork) -> Record:
    """The figures of a stage on any number of nodes."""
    stage = {"stage": work.stage.title} | {name: getattr(work.stage, name) for name in ("start", "stop", "epochs")}
    counts = {name: value for name, value in vars(work).items() if name != "stage"}
    return {**stage, **counts, "prefix_macs": sum(load.block_macs[: work.stage.start])}


def on_cluster(load: Workload, cluster: Cluster, rate: float | None) -> Record:
    """The figures of one number of nodes: bytes per rank, and seconds if a speed was measured."""
    return {
        "nodes": cluster.nodes,
        "ranks": cluster.ranks,
        "cache_bytes": rank_cache_bytes(load, cluster.ranks),
        "peak_cache_bytes": rank_peak_bytes(load, cluster.ranks),
        "gradient_bytes": [gradient_traffic(work, cluster.ranks) for work in load.stages],
        "norm_bytes": [norm_traffic(work, cluster.ranks) for work in load.stages],
        "times": stage_times(load, rate, cluster) if rate else [],
    }


def tables(record: Record) -> list[Table]:
    """What the command prints; a column per number of nodes."""
    stages, clusters = record["stages"], record["clusters"]
    nodes = [f"{cluster['nodes']} node{'s' if cluster['nodes'] > 1 else ''}" for cluster in clusters]
    work = numbers_table(
        record["title"], "stage", "epochs", "MMAC trained", "MMAC frozen", "gradients MB", min_width=72
    )
    for stage in stages:
        macs = (f"{stage[name] / 1e6:,.1f}" for name in ("train_macs", "prefix_macs"))
        work.add_row(stage["stage"], str(stage["epochs"]), *macs, f"{stage['gradient_bytes'] / 1e6:.1f}")
    traffic = numbers_table(
        "MB sent per step and rank: gradients + synchronised batch norms", "stage", *nodes, min_width=72
    )
    for i, stage in enumerate(stages):
        sent = (f"{c['gradient_bytes'][i] / 1e6:.3g} + {c['norm_bytes'][i] / 1e6:.2g}" for c in clusters)
        traffic.add_row(stage["stage"], *sent)
    cache = numbers_table(f"cache of each rank, {record['cache']}", "depth", *nodes, min_width=72)
    for depth in clusters[0]["cache_bytes"]:
        cache.add_row(str(depth), *(in_words(c["cache_bytes"][depth]) for c in clusters))
    if cache.row_count:
        cache.add_row("most at once", *(in_words(c["peak_cache_bytes"]) for c in clusters))
    else:
        cache.caption = "no stage starts behind frozen blocks: there is nothing to cache"
    if not clusters[0]["times"]:
        work.caption = "no times without --images-per-second; --help says how to measure it"
        return [work, traffic, cache]
    time = numbers_table("time without a cache → with one; * where the cache pays", "stage", *nodes, min_width=72)
    for i, stage in enumerate(stages):
        time.add_row(stage["stage"], *(time_cell([c["times"][i]], stage["start"] > 0) for c in clusters))
    time.add_row("run", *(time_cell(c["times"], bool(cache.row_count)) for c in clusters))
    return [work, traffic, cache, time]


def time_cell(times: list[Record], cached: bool) -> str:
    """`4.5 h`, and below it `→ 3.2 h *`."""
    without, having = (sum(time[name] for time in times) for name in ("recomputing", "caching"))
    if not cached:
        return in_time(without)
    return f"{in_time(without)}\n→ {in_time(having)}{' *' if having < without else ''}"


def in_time(seconds: float) -> str:
    """`3.2 d`, `4.5 h`, `12 min`, `6.1 s`, `250 ms`."""
    for unit, divisor in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= divisor:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{1e3 * seconds:.3g} ms"
