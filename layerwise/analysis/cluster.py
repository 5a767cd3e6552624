"""Estimates a run on many GPUs: time, cache sizes and network traffic, from the measured speed of one GPU.

Plain arithmetic in bytes, seconds and multiply-accumulates (MACs). N ranks, one per GPU, share each batch of B
samples. Assumptions, and which way they err:

- A rank processes B/N images at the rate that was measured: measure with a batch of B/N.
- All times follow from MACs at the rate of stage 1.
- Communication does not overlap with computing: an upper bound, since DDP sends the first gradients early.
- Latency, traffic within a node, scoring, checkpoints and decoding of images take no time.
- Reading a cache, and writing one, overlap with computing: the slower of the two counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from layerwise.config import build
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.precision import Precision
from layerwise.core.types import Shape
from layerwise.features.cache_plan import peak_bytes, store_bytes
from layerwise.features.codec import FeatureCodec
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import meta_copy
from layerwise.runs.finished import segment_of
from layerwise.training.plan import Stage
from layerwise.training.pruning import prune_block

FLOAT_BYTES = 4
"""Gradients and the statistics of batch norms are exchanged in float32."""

COUNTED_IMAGES = 2
"""A batch norm in training refuses a single image whose features have one position."""


@dataclass(frozen=True)
class StageWork:
    """What one stage trains.

    Attributes:
        stage: position in the network, and epochs.
        samples: training samples of an epoch.
        train_macs: MACs of forward and backward per image, without the frozen blocks.
        gradient_bytes: size of the gradients of all trained parameters, in float32.
        norm_channels: number of channels of each trained batch norm.
    """

    stage: Stage
    samples: int
    train_macs: int
    gradient_bytes: int
    norm_channels: tuple[int, ...]


@dataclass(frozen=True)
class Workload:
    """What a run computes and stores, on any number of ranks.

    Attributes:
        block_macs: forward MACs per image of block j, at index j−1.
        shapes: shape of x_j, at index j−1.
        images, held_out: numbers of training samples, and of validation and test samples.
        batch_size: B, of all ranks together.
        views: V, cached versions of each training sample.
        codec: number format of the cache.
    """

    stages: tuple[StageWork, ...]
    block_macs: tuple[int, ...]
    shapes: tuple[Shape, ...]
    images: int
    held_out: int
    batch_size: int
    views: int
    codec: FeatureCodec

    @property
    def cached_depths(self) -> list[int]:
        """Depths that stages start from: their features are cached, one depth after another."""
        return sorted({work.stage.start for work in self.stages} - {0})

    def row_bytes(self, depth: int) -> int:
        """Cached size of one sample's x_depth; 0 for images, which are not cached."""
        return self.codec.bytes_per_sample(self.shapes[depth - 1]) if depth else 0


@dataclass(frozen=True)
class Cluster:
    """Equal nodes.

    Attributes:
        gpus_per_node: number of ranks on each.
        network: bandwidth of a node's link in bytes/s, in each direction.
        disk: bytes/s at which a node reads or writes its ranks' caches.
    """

    nodes: int
    gpus_per_node: int
    network: float = inf
    disk: float = inf

    @property
    def ranks(self) -> int:
        """N."""
        return self.nodes * self.gpus_per_node


def workload(config: ResolvedConfig, precision: Precision) -> Workload:
    """Counts the work of a run on meta tensors: nothing is computed and no data are read.

    Raises:
        LayerwiseError: the network cannot be built for the data set.
    """
    spec = build.build_spec(config)
    stages = build.build_agenda(config).stages()
    network = build.build_network(config, spec, stages)
    costs = build.build_costs(config, network, spec, precision.dtype)
    images, held_out = build.sample_counts(config, spec)
    labelled = round(config.dataset.labelled * images)
    epochs = build.cached_epochs(stages) if config.dataset.augment and spec.augmented else 1
    on_meta = meta_copy(network)
    works = []
    for stage in stages:
        works.append(stage_work(on_meta, stage, spec.shape, labelled if stage.target == "labels" else images))
        if stage.prune_to is not None:
            prune_block(on_meta, stage.stop, range(stage.prune_to))
    return Workload(
        stages=tuple(works),
        block_macs=tuple(cost.block_macs for cost in costs),
        shapes=tuple(cost.output_shape for cost in costs),
        images=images,
        held_out=held_out,
        batch_size=config.batch_size,
        views=epochs if config.cache.views == "epochs" else min(config.cache.views, epochs),
        codec=build.codec(config, precision),
    )


def stage_work(network: BlockNet, stage: Stage, image_shape: Shape, samples: int) -> StageWork:
    """Counts one stage of a network on meta tensors."""
    segment = segment_of(network, stage)
    with torch.no_grad():  # x_start needs no gradient, which saves a part of the backward pass
        x = network.eval().features(torch.empty(COUNTED_IMAGES, *image_shape, device="meta"), stage.start)
    with FlopCounterMode(display=False) as counter:
        outputs = [output for readout in segment.train()(x) for output in readout if output is not None]
        torch.stack([output.sum() for output in outputs]).sum().backward()
    return StageWork(
        stage=stage,
        samples=samples,
        train_macs=counter.get_total_flops() // (2 * COUNTED_IMAGES),  # a MAC counts as two operations
        gradient_bytes=sum(p.numel() * FLOAT_BYTES for p in segment.parameters()),
        norm_channels=tuple(m.num_features for m in segment.modules() if isinstance(m, _BatchNorm)),
    )


def gradient_traffic(work: StageWork, ranks: int) -> float:
    """Bytes that a rank sends per step to average the gradients.

    A ring sends each of N parts N−1 times to sum them and N−1 times to distribute the sums.
    """
    return 2 * (ranks - 1) / ranks * work.gradient_bytes


def norm_traffic(work: StageWork, ranks: int) -> float:
    """Bytes that a rank sends per step for synchronised batch norms.

    The forward pass gathers means, variances and a count from all ranks, 2C+1 numbers for C channels: a rank forwards
    N−1 such messages. The backward pass reduces two sums per channel in a ring.
    """
    gathered = sum((2 * channels + 1) * FLOAT_BYTES for channels in work.norm_channels)
    reduced = sum(2 * channels * FLOAT_BYTES for channels in work.norm_channels)
    return (ranks - 1) * gathered + 2 * (ranks - 1) / ranks * reduced


def rank_cache_bytes(load: Workload, ranks: int) -> dict[int, int]:
    """Size of a rank's part of the cache of x_j, by depth j; of the largest rank."""
    images, held_out = ceil(load.images / ranks), ceil(load.held_out / ranks)
    return {d: store_bytes(load.shapes[d - 1], images, load.views, held_out, load.codec) for d in load.cached_depths}


def rank_peak_bytes(load: Workload, ranks: int) -> int:
    """Largest size of a rank's caches at any time: a cache is written while that of the depth before is read."""
    shapes = [load.shapes[depth - 1] for depth in load.cached_depths]
    return peak_bytes(shapes, ceil(load.images / ranks), load.views, ceil(load.held_out / ranks), load.codec)


def stage_times(load: Workload, rate: float, cluster: Cluster) -> list[dict[str, float]]:
    """Duration of each stage in seconds, `recomputing` the frozen blocks and `caching` their features, by cause.

    `compute` is forward, backward and update of what is trained, and `network` the communication between ranks. Without
    a cache, `recompute` is the forward pass through the frozen blocks at each step; with one, `advance` fills the cache
    of x_start and `wait` is for features to be read, beyond the computing that overlaps.

    Args:
        rate: images/s at which one GPU trains stage 1.
    """
    macs_per_second = rate * load.stages[0].train_macs
    times, before = [], 0

    def forward(start: int, stop: int) -> float:  # seconds per image, x_start → x_stop
        return sum(load.block_macs[start:stop]) / macs_per_second

    def read(depth: int) -> float:  # seconds per image while all GPUs of the node read
        return load.row_bytes(depth) * cluster.gpus_per_node / cluster.disk

    for work in load.stages:
        start = work.stage.start
        seen = work.stage.epochs * work.samples / cluster.ranks  # images per rank
        steps = work.stage.epochs * ceil(work.samples / load.batch_size) if cluster.nodes > 1 else 0
        traffic = gradient_traffic(work, cluster.ranks) + norm_traffic(work, cluster.ranks)
        source = before if before <= start else 0  # the cache that this one is made from
        filled = (load.images * load.views + load.held_out) / cluster.ranks if source < start else 0
        time = {
            "compute": seen * work.train_macs / macs_per_second,
            "network": steps * traffic / cluster.network,
            "recompute": seen * forward(0, start),
            "advance": filled * max(forward(source, start), read(source) + read(start)),
            "wait": seen * max(0.0, read(start) - work.train_macs / macs_per_second),
        }
        training = time["compute"] + time["network"]
        time |= {"recomputing": training + time["recompute"], "caching": training + time["advance"] + time["wait"]}
        times.append(time)
        before = start
    return times
