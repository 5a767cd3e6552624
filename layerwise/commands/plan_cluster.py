"""Estimates a run on many GPUs: time per stage, cache size, network traffic, and whether a cache pays.

    layerwise plan_cluster experiment=paper_imagenet_k3 precision=bf16
    layerwise plan_cluster --images-per-second R --network-gbits 200 experiment=paper_imagenet_k3 precision=bf16

The words KEY=VALUE are arguments of layerwise train; nothing is trained and no data are read. Measure the speed on one
GPU, with the batch that each rank will have: `images_per_second` of block 1 in results.json of a short run, such as

    layerwise train experiment=paper_imagenet_k3 J=1 epochs=1 batch_size=32 dataset.limit=50000

All times follow from it by multiply-accumulates (MACs). The cache is that of cache.views and cache.dtype.
precision=auto is the format of this machine: name the one of the GPUs. Assumptions, and which way they err:

- Communication does not overlap with computing: an upper bound, since DDP sends the first gradients early.
- Of what the ranks exchange only gradients count. On the paper's ImageNet network (k = 3) synchronised batch norms add
  up to 3 % with 64 ranks, and up to 12 % with 256.
- Latency, traffic within a node, scoring, checkpoints and decoding of images take no time.
- Reading a cache, and writing one, overlap with computing: the slower of the two counts.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from layerwise.commands.arguments import Parser, at_least, named
from layerwise.commands.compose import configuration
from layerwise.config import build
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.core.precision import choose_device, choose_precision
from layerwise.features.cache_plan import in_words, peak_bytes
from layerwise.models.costs import meta_copy, step_macs
from layerwise.reporting.tables import numbers_table, show
from layerwise.runs.finished import segment_of
from layerwise.training.pruning import prune_block

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


@dataclass(frozen=True)
class StageWork:
    """What one stage computes and stores, on any number of ranks.

    Attributes:
        start: number of frozen blocks, whose outputs a cache holds.
        samples: training samples of an epoch.
        train_macs: of forward and backward per image, without the frozen blocks.
        prefix_macs: of a forward pass of the frozen blocks per image.
        gradient_bytes: size of the gradients of all trained parameters.
        row_bytes: cached size of a sample's x_start; 0 for images, which are not cached.
    """

    title: str
    start: int
    epochs: int
    samples: int
    train_macs: int
    prefix_macs: int
    gradient_bytes: int
    row_bytes: int


@dataclass(frozen=True)
class Cluster:
    """Equal nodes of some GPUs each, with the bytes/s of a node's link in each direction and of its disk."""

    nodes: int
    gpus_per_node: int
    network: float = math.inf
    disk: float = math.inf

    @property
    def ranks(self) -> int:
        """N, one for each GPU; they share every batch."""
        return self.nodes * self.gpus_per_node


def plan(options: argparse.Namespace) -> Record:
    """All figures, in bytes and seconds.

    Raises:
        LayerwiseError: layerwise train would refuse the configuration, or the ranks cannot share its batches.
    """
    config = configuration(options.words)
    precision = choose_precision(config.precision, choose_device(config.device))
    spec = build.build_spec(config)
    stages = build.build_agenda(config).stages()
    network = build.build_network(config, spec, stages)
    build.check_network(network, stages)
    costs = build.build_costs(config, network, spec, precision.dtype)
    images, held_out = build.sample_counts(config, spec)
    views, codec = build.cached_views(config, spec, stages), build.codec(config, precision)

    network, works = meta_copy(network), []
    for stage in stages:
        if stage.head_width is not None:
            network.heads[str(stage.stop)] = meta_copy(build.build_last_head(config, network, spec, stage.head_width))
        segment, before = segment_of(network, stage), costs[: stage.start]
        works.append(
            StageWork(
                stage.title,
                stage.start,
                stage.epochs,
                samples=round(config.dataset.labelled * images) if stage.target == "labels" else images,
                train_macs=step_macs(network, segment, spec.shape),
                prefix_macs=sum(cost.block_macs for cost in before),
                gradient_bytes=sum(p.numel() * p.itemsize for p in segment.parameters()),
                row_bytes=codec.bytes_per_sample(before[-1].output_shape) if before else 0,
            )
        )
        if stage.prune_to is not None:
            prune_block(network, stage.stop, range(stage.prune_to))

    def on_cluster(cluster: Cluster) -> Record:
        n = cluster.ranks
        stored = math.ceil(images / n), views, math.ceil(held_out / n)
        rows = {work.start: work.row_bytes for work in works if work.start}
        shapes = [costs[depth - 1].output_shape for depth in sorted(rows)]
        rate, filled = options.images_per_second, (images * views + held_out) / n
        return {
            "nodes": cluster.nodes,
            "ranks": n,
            "cache_bytes": {depth: (stored[0] * views + stored[2]) * rows[depth] for depth in sorted(rows)},
            "peak_cache_bytes": peak_bytes(shapes, *stored, codec),
            "sent_bytes": [sent_bytes(work, n) for work in works],
            "times": stage_times(works, filled, config.batch_size, rate, cluster) if rate else [],
        }

    return {
        "title": f"{config.model.name} k={config.k} J={config.J}, {config.plan.name}; "
        f"{config.dataset.name}: {images:,} samples, batches of {config.batch_size}; {precision.name}",
        "cache": f"{views} views in {codec.dtype.value}",
        "stages": [asdict(work) for work in works],
        "clusters": [on_cluster(cluster) for cluster in clusters_of(options, config.batch_size)],
    }


def clusters_of(options: argparse.Namespace, batch_size: int) -> list[Cluster]:
    """The clusters that were asked for; without --nodes those whose ranks can share a batch."""
    network, disk = options.network_gbits * 1e9 / 8, options.disk_gb_per_second * 1e9
    clusters = [Cluster(n, options.gpus_per_node, network, disk) for n in options.nodes or NODES]
    unable = [cluster for cluster in clusters if batch_size % cluster.ranks]
    if unable and (options.nodes or len(unable) == len(clusters)):
        wrong = unable[0]
        raise LayerwiseError(
            f"batch_size={batch_size}: cannot be divided among {wrong.ranks} ranks ({wrong.nodes} nodes of "
            f"{wrong.gpus_per_node} GPUs). Use a multiple of {wrong.ranks}, or fewer --nodes or --gpus-per-node."
        )
    return [cluster for cluster in clusters if cluster not in unable]


def sent_bytes(work: StageWork, ranks: int) -> float:
    """Bytes that a rank sends per step to average the gradients.

    A ring sends each of N parts N−1 times to sum them and N−1 times to distribute the sums.
    """
    return 2 * (ranks - 1) / ranks * work.gradient_bytes


def stage_times(
    works: Sequence[StageWork], filled: float, batch_size: int, rate: float, cluster: Cluster
) -> list[dict[str, float]]:
    """Duration of each stage in seconds, `recomputing` the frozen blocks and `caching` their features, by cause.

    `compute` is forward, backward and update of what is trained, and `network` the communication between nodes. Without
    a cache, `recompute` is the forward pass through the frozen blocks at each step; with one, `advance` fills the cache
    of x_start and `wait` is for features to be read, beyond the computing that overlaps.

    Args:
        filled: samples that a rank stores in a cache, each view counted.
        rate: images/s at which one GPU trains stage 1.
    """
    macs_per_second, times = rate * works[0].train_macs, []
    images = StageWork("images", 0, 0, 0, 0, 0, 0, row_bytes=0)
    before = images

    def read(work: StageWork) -> float:  # seconds per image while all GPUs of the node read
        return work.row_bytes * cluster.gpus_per_node / cluster.disk

    for work in works:
        seen = work.epochs * work.samples / cluster.ranks  # images per rank
        steps = work.epochs * math.ceil(work.samples / batch_size) if cluster.nodes > 1 else 0
        source = before if before.start <= work.start else images  # whose cache this one is made from
        advanced = (work.prefix_macs - source.prefix_macs) / macs_per_second
        compute = work.train_macs / macs_per_second
        time = {
            "compute": seen * compute,
            "network": steps * sent_bytes(work, cluster.ranks) / cluster.network,
            "recompute": seen * work.prefix_macs / macs_per_second,
            "advance": filled * max(advanced, read(source) + read(work)) if source.start < work.start else 0.0,
            "wait": seen * max(0.0, read(work) - compute),
        }
        training = time["compute"] + time["network"]
        time |= {"recomputing": training + time["recompute"], "caching": training + time["advance"] + time["wait"]}
        times.append(time)
        before = work
    return times


def tables(record: Record) -> list[Table]:
    """What the command prints; a column per number of nodes."""
    stages, clusters = record["stages"], record["clusters"]
    nodes = [f"{cluster['nodes']} node{'s' if cluster['nodes'] > 1 else ''}" for cluster in clusters]
    work = numbers_table(
        record["title"], "stage", "epochs", "MMAC trained", "MMAC frozen", "gradients MB", min_width=72
    )
    for stage in stages:
        macs = (f"{stage[name] / 1e6:,.1f}" for name in ("train_macs", "prefix_macs"))
        work.add_row(stage["title"], str(stage["epochs"]), *macs, f"{stage['gradient_bytes'] / 1e6:.1f}")
    traffic = numbers_table("MB of gradients sent per step and rank", "stage", *nodes, min_width=72)
    for i, stage in enumerate(stages):
        traffic.add_row(stage["title"], *(f"{cluster['sent_bytes'][i] / 1e6:.3g}" for cluster in clusters))
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
        time.add_row(stage["title"], *(time_cell([c["times"][i]], stage["start"] > 0) for c in clusters))
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
