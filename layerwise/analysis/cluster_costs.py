"""What a run on many GPUs would take: time, cache and network traffic, from the measured speed of one GPU.

Plain arithmetic in SI units: bytes, seconds, multiply-accumulates (MACs). N ranks, one per GPU, share each
batch of B samples, so a rank trains B/N of them. What the model leaves out, so that one knows which way it errs:

- a rank is as fast with B/N images as it was when it was measured: measure with a batch of that size;
- no communication is hidden behind computing: an upper bound, since DDP sends the first gradients while others
  are computed;
- a message's latency, and all traffic within a node, take no time;
- reading a cache runs beside computing, so the slower of the two counts; so does writing one while it is advanced;
- batch norms are synchronised, as by default;
- the scoring at the end of a stage, checkpoints, and the decoding of images (but for what the measured speed holds)
  are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from layerwise.analysis.stage_work import StageWork
from layerwise.core.errors import LayerwiseError
from layerwise.core.types import Shape
from layerwise.features.cache_plan import peak_bytes, store_bytes
from layerwise.features.codec import FeatureCodec
from layerwise.training.plan import Stage

FLOAT_BYTES = 4
"""Gradients and batch norms' statistics are exchanged in float32."""


@dataclass(frozen=True)
class Workload:
    """What a run has to do, on however many ranks.

    Attributes:
        stages: in order.
        block_macs: forward MACs of an image through block j, at position j−1.
        shapes: of x_j, at position j−1.
        images, held_out: numbers of training samples and of validation and test samples.
        batch_size: B, of all ranks together.
    """

    stages: tuple[StageWork, ...]
    block_macs: tuple[int, ...]
    shapes: tuple[Shape, ...]
    images: int
    held_out: int
    batch_size: int

    @property
    def cached_depths(self) -> list[int]:
        """Depths whose features a cache holds, one after another: those that stages start from."""
        return sorted({work.stage.start for work in self.stages} - {0})


@dataclass(frozen=True)
class Cluster:
    """Equal nodes.

    Attributes:
        nodes: their number.
        gpus_per_node: ranks on each.
        network: bytes/s of a node's link, in each direction at once; None takes no time.
        disk: bytes/s at which a node reads its ranks' caches, or writes them; None takes no time.
    """

    nodes: int
    gpus_per_node: int
    network: float | None = None
    disk: float | None = None

    @property
    def ranks(self) -> int:
        """N."""
        return self.nodes * self.gpus_per_node


def why_not_shared(load: Workload, cluster: Cluster) -> str | None:
    """Why the ranks cannot share the batches, and what they could share; None if they can."""
    size, n = load.batch_size, cluster.ranks
    ranks = f"{n} ranks ({cluster.nodes} node(s) of {cluster.gpus_per_node} GPU(s))"
    fewest = min(work.samples for work in load.stages)
    if size % n:
        nearest = [multiple for multiple in (size // n * n, -(-size // n) * n) if 0 < multiple <= fewest]
        remedy = f"batch_size={' or '.join(map(str, nearest))}, or " if nearest else ""
        return f"batch_size={size}: {ranks} cannot share it equally. Use {remedy}fewer ranks."
    for samples in sorted({work.samples for work in load.stages}):
        if (last := samples % size or size) < n:
            return (
                f"batch_size={size}: leaves a last batch of {last} of the {samples} samples, fewer than {ranks}. "
                f"Use dataset.limit={samples - last}, another batch_size, or fewer ranks."
            )
    return None


# Network


def gradient_traffic(work: StageWork, ranks: int) -> float:
    """Bytes that a rank sends in a step (and receives as many) so that all have the mean gradient.

    A ring passes each of N parts on N−1 times to sum them and N−1 times to spread the sums: 2(N−1)/N of the bytes.
    """
    return 2 * (ranks - 1) / ranks * work.gradient_bytes


def norm_traffic(work: StageWork, ranks: int) -> float:
    """Bytes that a rank sends in a step for synchronised batch norms.

    Forward, each norm of C channels gathers means, variances and a count, 2C+1 numbers, from all ranks: a rank
    passes N−1 such messages on. Backward, it reduces two sums a channel in a ring.
    """
    gathered = sum((2 * c + 1) * FLOAT_BYTES for c in work.norm_channels)
    reduced = sum(2 * c * FLOAT_BYTES for c in work.norm_channels)
    return (ranks - 1) * gathered + 2 * (ranks - 1) / ranks * reduced


def network_seconds(sent: float, cluster: Cluster) -> float:
    """Time that a ring needs to let each rank send so many bytes: it enters and leaves each node once."""
    if cluster.nodes == 1 or cluster.network is None:
        return 0.0
    return sent / cluster.network


def step_traffic(work: StageWork, ranks: int) -> float:
    """Bytes that a rank sends in a step of data-parallel training with synchronised batch norms."""
    return gradient_traffic(work, ranks) + norm_traffic(work, ranks)


def boundary_bytes(load: Workload, depth: int, bytes_per_number: int) -> int:
    """Bytes of x_depth that pass to the next block in a step, where blocks train at once on ranks of their own.

    Nothing comes back: the gradient is stopped there.
    """
    return load.batch_size * prod(load.shapes[depth - 1]) * bytes_per_number


# Cache


def rank_store_bytes(load: Workload, depth: int, views: int, codec: FeatureCodec, ranks: int) -> int:
    """Size of the largest rank's part of the cache of x_depth."""
    return store_bytes(load.shapes[depth - 1], ceil(load.images / ranks), views, ceil(load.held_out / ranks), codec)


def rank_peak_bytes(load: Workload, views: int, codec: FeatureCodec, ranks: int) -> int:
    """Most that the largest rank holds at once: a cache is written beside the one of the depth before."""
    shapes = [load.shapes[depth - 1] for depth in load.cached_depths]
    return peak_bytes(shapes, ceil(load.images / ranks), views, ceil(load.held_out / ranks), codec)


# Time


@dataclass(frozen=True)
class Speed:
    """How fast one GPU is.

    Attributes:
        stages: images/s at which it trains each stage, on features that are at hand.
        block_seconds: that block j needs for an image forward, at position j−1.
    """

    stages: tuple[float, ...]
    block_seconds: tuple[float, ...]

    def forward_seconds(self, start: int, stop: int) -> float:
        """Time for an image from x_start to x_stop."""
        return sum(self.block_seconds[start:stop])


def speed_from(measured: Sequence[float], load: Workload) -> Speed:
    """The speed of all stages and blocks from what was measured.

    One figure, of the first stage, gives MACs/s, and these all other times. With a figure for each stage, a
    frozen block runs at the MACs/s of the stage that trained it.

    Args:
        measured: images/s of one GPU for the first stage, or for each.
        load: the run.

    Raises:
        LayerwiseError: neither one figure nor one per stage.
    """
    n = len(load.stages)
    if len(measured) not in (1, n):
        raise LayerwiseError(
            f"--images-per-second: {len(measured)} figures, but the run has {n} stage(s). "
            f"Give one, of its first stage, or {n} with commas between them."
        )
    first = measured[0] * load.stages[0].train_macs
    rates = measured if len(measured) == n else [first / work.train_macs for work in load.stages]
    macs_per_second: list[float] = []
    for j in range(1, len(load.block_macs) + 1):
        trained = next(i for i, work in enumerate(load.stages) if work.stage.start < j <= work.stage.stop)
        macs_per_second.append(rates[trained] * load.stages[trained].train_macs)
    seconds = tuple(macs / rate for macs, rate in zip(load.block_macs, macs_per_second, strict=True))
    return Speed(tuple(rates), seconds)


@dataclass(frozen=True)
class StageTime:
    """Seconds that all ranks together need for a stage (from begin to end, not their sum).

    Attributes:
        compute: forward, backward and update of what is trained.
        network: the ranks' communication.
        recompute: the frozen blocks at each step, if nothing is cached.
        advance: the pass that fills the cache of x_start, if there is one.
        wait: for the cache's features, beyond the computing that runs meanwhile.
    """

    compute: float
    network: float
    recompute: float
    advance: float
    wait: float

    @property
    def recomputing(self) -> float:
        """Of the whole stage without a cache."""
        return self.compute + self.network + self.recompute

    @property
    def caching(self) -> float:
        """Of the whole stage with a cache."""
        return self.compute + self.network + self.advance + self.wait

    @property
    def cache_pays(self) -> bool:
        """Whether the stage is over sooner with a cache."""
        return self.caching < self.recomputing


def stage_times(load: Workload, speed: Speed, cluster: Cluster, views: int, codec: FeatureCodec) -> list[StageTime]:
    """Times of all stages.

    Args:
        load: the run.
        speed: of a GPU.
        cluster: where it runs.
        views: V, stored versions of each training image.
        codec: number format of the cache.
    """
    times, before = [], 0
    for work, rate in zip(load.stages, speed.stages, strict=True):
        stage = work.stage
        seen = stage.epochs * work.samples / cluster.ranks  # images that a rank trains on
        steps = stage.epochs * ceil(work.samples / load.batch_size)
        reading = read_seconds(load, stage.start, codec, cluster)
        traffic = step_traffic(work, cluster.ranks)
        times.append(
            StageTime(
                compute=seen / rate,
                network=steps * network_seconds(traffic, cluster),
                recompute=seen * speed.forward_seconds(0, stage.start),
                advance=_advance_seconds(load, speed, cluster, stage, before, views, codec),
                wait=seen * max(0.0, reading - 1 / rate),
            )
        )
        before = stage.start
    return times


def caching_from(
    first: int,
    times: Sequence[StageTime],
    load: Workload,
    speed: Speed,
    cluster: Cluster,
    views: int,
    codec: FeatureCodec,
) -> float:
    """Seconds of a run that recomputes the frozen blocks up to a stage and has a cache from that one on.

    Args:
        first: index of that stage; its cache is made from the images.
        times: of all stages, as `stage_times` gives them for the same arguments.
    """
    begin = times[first].caching - times[first].advance
    begin += _advance_seconds(load, speed, cluster, load.stages[first].stage, 0, views, codec)
    return sum(t.recomputing for t in times[:first]) + begin + sum(t.caching for t in times[first + 1 :])


def read_seconds(load: Workload, depth: int, codec: FeatureCodec, cluster: Cluster) -> float:
    """Time for a rank to read one image's x_depth, while the other GPUs of its node do so, too."""
    if depth == 0 or cluster.disk is None:
        return 0.0
    return codec.bytes_per_sample(load.shapes[depth - 1]) * cluster.gpus_per_node / cluster.disk


def needed_read_rate(load: Workload, depth: int, rate: float, codec: FeatureCodec, gpus_per_node: int) -> float:
    """Bytes/s that a node must read so that its GPUs, each at `rate` images/s, never wait for x_depth."""
    return rate * gpus_per_node * codec.bytes_per_sample(load.shapes[depth - 1]) if depth else 0.0


def _advance_seconds(
    load: Workload, speed: Speed, cluster: Cluster, stage: Stage, before: int, views: int, codec: FeatureCodec
) -> float:
    """Time to make the cache of x_start from that of the stage before; from the images, if that lies deeper."""
    start = before if before <= stage.start else 0
    if start == stage.start:
        return 0.0
    images = (load.images * views + load.held_out) / cluster.ranks
    moved = sum(read_seconds(load, depth, codec, cluster) for depth in (start, stage.start))
    return images * max(speed.forward_seconds(start, stage.start), moved)
