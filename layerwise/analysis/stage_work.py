"""What a stage computes and what its ranks would exchange, counted without computing anything (meta tensors)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from layerwise.core.types import Shape
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.runs.finished import segment_of
from layerwise.training.plan import Stage
from layerwise.training.pruning import prune_block

IMAGES = 2
"""A batch norm in training refuses a single image whose features have one position."""


@dataclass(frozen=True)
class StageWork:
    """What one stage trains.

    Attributes:
        stage: which.
        samples: training samples of an epoch.
        train_macs: multiply-accumulates of forward and backward per image, behind the frozen blocks.
        gradient_bytes: of all trained parameters, in float32.
        norm_channels: channels of each batch norm that is trained.
    """

    stage: Stage
    samples: int
    train_macs: int
    gradient_bytes: int
    norm_channels: tuple[int, ...]


def count_work(
    network: BlockNet, stages: Sequence[Stage], image_shape: Shape, samples: int, labelled: int
) -> list[StageWork]:
    """The work of all stages of a run.

    Args:
        network: with the heads and decoders that the stages read; it is not changed.
        stages: of the run, in order.
        image_shape: (C, H, W) of x_0.
        samples: training samples.
        labelled: those of them whose labels are used.
    """
    on_meta = copy.deepcopy(network).to("meta")
    works = []
    for stage in stages:
        segment = segment_of(on_meta, stage)
        works.append(
            StageWork(
                stage=stage,
                samples=labelled if stage.target == "labels" else samples,
                train_macs=_train_macs(segment, _features(on_meta, image_shape, stage.start)),
                gradient_bytes=sum(p.numel() * torch.float32.itemsize for p in segment.parameters()),
                norm_channels=tuple(m.num_features for m in segment.modules() if isinstance(m, _BatchNorm)),
            )
        )
        if stage.prune_to is not None:
            prune_block(on_meta, stage.stop, range(stage.prune_to))
    return works


def _features(network: BlockNet, image_shape: Shape, depth: int) -> Tensor:
    """x_depth of some images; like a stage's input it needs no gradient, which saves a part of the backward pass."""
    with torch.no_grad():
        return network.eval().features(torch.empty(IMAGES, *image_shape, device="meta"), depth)


def _train_macs(segment: nn.Module, x: Tensor) -> int:
    assert isinstance(segment, Segment)
    counter = FlopCounterMode(display=False)
    with counter:
        outputs = [output for readout in segment.train()(x) for output in readout if output is not None]
        torch.stack([output.sum() for output in outputs]).sum().backward()
    return counter.get_total_flops() // (2 * IMAGES)  # it counts a multiply-accumulate as two
