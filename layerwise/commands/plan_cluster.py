"""Estimates what a run would take on many GPUs: time, cache sizes, network traffic, and whether a cache pays.

layerwise plan_cluster experiment=paper_imagenet_k3 precision=bf16
layerwise plan_cluster --images-per-second R --network-gbits 200 experiment=paper_imagenet_k3 precision=bf16
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from layerwise.analysis.cluster_costs import (
    Cluster,
    Speed,
    Workload,
    boundary_bytes,
    caching_from,
    gradient_traffic,
    needed_read_rate,
    network_seconds,
    norm_traffic,
    rank_peak_bytes,
    rank_store_bytes,
    speed_from,
    stage_times,
    step_traffic,
    why_not_shared,
)
from layerwise.analysis.cluster_tables import print_record
from layerwise.analysis.stage_work import count_work
from layerwise.commands.arguments import Parser
from layerwise.commands.compose import configuration
from layerwise.config import build
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.choices import PrecisionName
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.core.precision import Precision, choose_device, choose_precision
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec

NODES = [1, 2, 4, 8, 16, 32, 64]


def main(words: Sequence[str]) -> None:
    parser = Parser("plan_cluster", __doc__)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="arguments of layerwise train")

    def option(name: str, read: Callable[[str, str], Any], metavar: str, text: str, default: Any = None) -> None:
        parser.add_argument(name, type=partial(read, name), metavar=metavar, help=text, default=default)

    option("--images-per-second", figures, "R", "measured: of one GPU for the first stage, or R1,R2,… for each")
    option("--nodes", counts, "N,N,…", "default: those of 1,2,4,…,64 that can share the batch")
    option("--gpus-per-node", count, "N", "default 8", default=8)
    option("--views", view_words, "V,V,…", "of a cache; epochs: one for each (default 1,epochs)", default="1,epochs")
    option("--network-gbits", figure, "GBIT/S", "bandwidth of a node, in each direction")
    option("--disk-gb-per-second", figure, "GB/S", "at which a node reads or writes caches")
    option("--memory-gb", figure, "GB", "that a rank has for its part of the cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures also go, in SI units")
    options = parser.parse_intermixed_args(words)
    record = plan(options)
    print_record(record)
    if options.json:
        write_atomically(options.json, json.dumps(record, indent=1) + "\n", kept="The tables above are whole.")


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, in bytes and seconds.

    Raises:
        LayerwiseError: a configuration that layerwise train would refuse, or that the nodes cannot share.
    """
    config = configuration(options.words)
    precision = choose_precision(config.precision, choose_device(config.device))
    load, codec = workload(config, precision), build.codec(config, precision)
    views = stored_views(options.views, config)
    node_counts, left_out = shared_nodes(options.nodes, options.gpus_per_node, load)
    network = None if options.network_gbits is None else options.network_gbits * 1e9 / 8
    disk = None if options.disk_gb_per_second is None else options.disk_gb_per_second * 1e9
    memory = None if options.memory_gb is None else options.memory_gb * 1e9
    clusters = [Cluster(nodes, options.gpus_per_node, network, disk) for nodes in node_counts]
    speed = None if options.images_per_second is None else speed_from(options.images_per_second, load)
    return {
        "arguments": options.words,
        "model": f"{config.model.name} k={config.k} J={config.J} plan={config.plan.name.value}",
        "dataset": config.dataset.name,
        "samples": load.images,
        "held_out": load.held_out,
        "batch_size": load.batch_size,
        "precision": precision.name,
        "precision_of_this_machine": config.precision is PrecisionName.auto,
        "cache_dtype": codec.dtype.value,
        "depth_is_chosen": config.plan.patience is not None,
        "given": {
            "images_per_second": options.images_per_second,
            "gpus_per_node": options.gpus_per_node,
            "network_bytes_per_second": network,
            "disk_bytes_per_second": disk,
            "memory_bytes": memory,
        },
        "nodes": node_counts,
        "left_out": left_out,
        "views": views,
        "stages": stage_records(load, speed),
        "caches": cache_records(load, clusters, views, memory),
        "traffic": [traffic_record(load, speed, cluster) for cluster in clusters],
        "boundaries": boundary_records(load, network, precision.dtype.itemsize),
        "times": [time_record(load, speed, cluster, v, codec) for v in views for cluster in clusters] if speed else [],
    }


def workload(config: ResolvedConfig, precision: Precision) -> Workload:
    """What a configuration's run has to do."""
    spec = build.build_spec(config)
    stages = build.build_agenda(config).stages()
    network = build.build_network(config, spec, stages)
    costs = build.build_costs(config, network, spec, precision.dtype)
    images, held_out = build.sample_counts(config, spec)
    labelled = round(config.dataset.labelled * images)
    return Workload(
        stages=tuple(count_work(network, stages, spec.shape, images, labelled)),
        block_macs=tuple(cost.block_macs for cost in costs),
        shapes=tuple(cost.output_shape for cost in costs),
        images=images,
        held_out=held_out,
        batch_size=config.batch_size,
    )


def stored_views(wanted: Sequence[int | None], config: ResolvedConfig) -> list[int]:
    """Numbers of views, each at most one per epoch of the longest stage (so is None); 1 if nothing is augmented."""
    augmented = config.dataset.augment and build.build_spec(config).augmented
    needed = build.cached_epochs(build.build_agenda(config).stages()) if augmented else 1
    return sorted({min(views or needed, needed) for views in wanted})


def shared_nodes(wanted: list[int] | None, gpus: int, load: Workload) -> tuple[list[int], list[dict[str, Any]]]:
    """Node counts, and those of the usual ones that cannot share the batches, with the reason.

    Raises:
        LayerwiseError: one that was asked for cannot share them, or none can.
    """
    reasons = {nodes: why_not_shared(load, Cluster(nodes, gpus)) for nodes in wanted or NODES}
    able = [nodes for nodes, reason in reasons.items() if reason is None]
    left_out = [{"nodes": nodes, "reason": reason} for nodes, reason in reasons.items() if reason is not None]
    if left_out and (wanted or not able):
        raise LayerwiseError(left_out[0]["reason"])
    return able, left_out


def stage_records(load: Workload, speed: Speed | None) -> list[dict[str, Any]]:
    return [
        {
            "stage": work.stage.title,
            "start": work.stage.start,
            "stop": work.stage.stop,
            "epochs": work.stage.epochs,
            "samples": work.samples,
            "train_macs": work.train_macs,
            "prefix_macs": sum(load.block_macs[: work.stage.start]),
            "gradient_bytes": work.gradient_bytes,
            "norm_channels": list(work.norm_channels),
            "images_per_second": speed.stages[i] if speed else None,
        }
        for i, work in enumerate(load.stages)
    ]


def cache_records(
    load: Workload, clusters: Sequence[Cluster], views: Sequence[int], budget: float | None
) -> list[dict[str, Any]]:
    """Bytes of the largest rank for each number of views, format and number of nodes."""
    records = []
    for cluster in clusters if load.cached_depths else ():
        for v in views:
            for dtype in FeatureDtype:
                codec = FeatureCodec(dtype)
                peak = rank_peak_bytes(load, v, codec, cluster.ranks)
                depths = {d: rank_store_bytes(load, d, v, codec, cluster.ranks) for d in load.cached_depths}
                fits = None if budget is None else peak <= budget
                where = {"views": v, "dtype": dtype.value, "nodes": cluster.nodes, "ranks": cluster.ranks}
                records.append({**where, "bytes": depths, "peak_bytes": peak, "fits": fits})
    return records


def traffic_record(load: Workload, speed: Speed | None, cluster: Cluster) -> dict[str, Any]:
    """What a rank sends in a step of each stage, how long it takes, and its share of the step."""
    rows = []
    for i, work in enumerate(load.stages):
        taken = network_seconds(step_traffic(work, cluster.ranks), cluster)
        computing = load.batch_size / cluster.ranks / speed.stages[i] if speed else None
        timed = cluster.network is not None and cluster.nodes > 1
        rows.append(
            {
                "gradient_bytes": gradient_traffic(work, cluster.ranks),
                "norm_bytes": norm_traffic(work, cluster.ranks),
                "seconds": taken if timed else None,
                "share": taken / (taken + computing) if timed and computing else None,
            }
        )
    return {"nodes": cluster.nodes, "ranks": cluster.ranks, "stages": rows}


def boundary_records(load: Workload, network: float | None, bytes_per_number: int) -> list[dict[str, Any]]:
    """What passes between neighbouring blocks in a step, and how long a node's link takes for it."""
    records = []
    for depth in range(1, len(load.shapes)):
        size = boundary_bytes(load, depth, bytes_per_number)
        seconds = None if network is None else size / network
        records.append({"depth": depth, "shape": list(load.shapes[depth - 1]), "bytes": size, "seconds": seconds})
    return records


def time_record(load: Workload, speed: Speed, cluster: Cluster, views: int, codec: FeatureCodec) -> dict[str, Any]:
    """Seconds of each stage and of the run, without a cache and with one, and from which stage on to have one."""
    times = stage_times(load, speed, cluster, views, codec)
    rows: list[dict[str, Any]] = []
    for i, (work, rate, time) in enumerate(zip(load.stages, speed.stages, times, strict=True)):
        row = {"stage": work.stage.title, **vars(time), "recomputing": time.recomputing, "caching": time.caching}
        if start := work.stage.start:
            row["read_bytes_per_second"] = needed_read_rate(load, start, rate, codec, cluster.gpus_per_node)
            row["pays"] = time.cache_pays
            row["caching_from_here"] = caching_from(i, times, load, speed, cluster, views, codec)
        rows.append(row)
    recomputing = sum(time.recomputing for time in times)
    best = min((row for row in rows if "pays" in row), key=lambda row: row["caching_from_here"], default=None)
    return {
        "nodes": cluster.nodes,
        "ranks": cluster.ranks,
        "views": views,
        "stages": rows,
        "recomputing": recomputing,
        "caching": sum(time.caching for time in times),
        "pays_from": best["stage"] if best and best["caching_from_here"] < recomputing else None,
    }


def figures(option: str, text: str) -> list[float]:
    """Positive numbers with commas between them.

    Raises:
        LayerwiseError: names the option.
    """
    values = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            raise LayerwiseError(f"{option} {text}: '{word}' is not a number.") from None
        if not (math.isfinite(value) and value > 0):
            raise LayerwiseError(f"{option} {text}: must be more than 0.")
        values.append(value)
    return values


def figure(option: str, text: str) -> float:
    """One positive number; raises as `figures`."""
    values = figures(option, text)
    if len(values) > 1:
        raise LayerwiseError(f"{option} {text}: must be one number.")
    return values[0]


def counts(option: str, text: str) -> list[int]:
    """Whole numbers with commas between them; raises as `figures`."""
    values = figures(option, text)
    if any(value != int(value) for value in values):
        raise LayerwiseError(f"{option} {text}: must be 1 or more, and whole.")
    return sorted({int(value) for value in values})


def count(option: str, text: str) -> int:
    """One whole number; raises as `figures`."""
    values = counts(option, text)
    if len(values) > 1:
        raise LayerwiseError(f"{option} {text}: must be one number.")
    return values[0]


def view_words(option: str, text: str) -> list[int | None]:
    """Whole numbers, or None for `epochs`; raises as `figures`."""
    return [None if word == "epochs" else count(option, word) for word in text.split(",")]
