"""One of several processes that train a stage with DDP and count what they exchange (see test_plan_cluster.py)."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from layerwise.config import build
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.types import Shape
from layerwise.models.blocknet import BlockNet
from layerwise.runs.finished import segment_of
from layerwise.training.plan import Stage


def count_gradient_bytes(rank: int, ranks: int, configs: Sequence[ResolvedConfig], folder: Path) -> None:
    """Writes the bytes that DDP reduces in a step to `folder`/<rank>, a line per stage of each configuration."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    counted = []
    for config in configs:
        spec = build.build_spec(config)
        stages = build.build_agenda(config).stages()
        network = build.build_network(config, spec, stages)
        counted += [bytes_of_a_step(network, stage, spec.shape) for stage in stages]
    (folder / str(rank)).write_text("\n".join(map(str, counted)))
    dist.destroy_process_group()


def bytes_of_a_step(network: BlockNet, stage: Stage, image_shape: Shape) -> int:
    """Sum of the buckets that DDP reduces in a backward pass of a stage."""
    sizes = []

    def count(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        sizes.append(bucket.buffer().nbytes)
        return allreduce_hook(dist.group.WORLD, bucket)

    segment = DistributedDataParallel(segment_of(network, stage))
    segment.register_comm_hook(None, count)
    with torch.no_grad():
        x = network.features(torch.rand(4, *image_shape), stage.start)
    sum(readout.scores.square().sum() for readout in segment(x)).backward()
    return sum(sizes)
