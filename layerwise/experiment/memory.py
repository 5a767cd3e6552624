"""What the training of a stage needs of memory, part by part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from layerwise.core.distributed import AllReduceMax
from layerwise.core.machine import MemoryGrowth
from layerwise.data.dataset import Resident
from layerwise.experiment.context import Run
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.training.trainer import StageTrainer

UNKNOWN = -1.0


def stage_memory(run: Run, segment: Segment, trainer: StageTrainer, growth: MemoryGrowth) -> dict[str, Any]:
    """Returns the entry `memory_mb` of results.json for a trained stage; nothing where it is unknown. Collective.

    Each value is in MiB, the largest of all processes: those of `training_memory`, and
    `cache`: the features held in memory; `data`: the samples.
    """
    found = training_memory(run.network, segment, trainer.optimizer, growth) | {
        "cache": run.cache.bytes / 2**20 if run.cache.kind == "memory" else 0.0,
        "data": _mb(split.values for split in run.data.splits.values() if isinstance(split, Resident)),
    }
    largest = AllReduceMax(*found.values()).wait()
    return {} if UNKNOWN in largest else {"memory_mb": dict(zip(found, largest, strict=True))}


def training_memory(
    network: BlockNet, segment: Segment, optimizer: Optimizer, growth: MemoryGrowth
) -> dict[str, float]:
    """Returns what training steps need, in MiB.

    `parameters`: the network with its buffers, and the gradients and the optimiser's state of what is trained;
    `activations`: what else the process (of a GPU: PyTorch) took at the peak of the steps after the first, or of the
    only one. The first one's set-up of libraries is no part of it.
    """
    trained = _mb(p for p in segment.parameters() if p.requires_grad)
    state = _mb(t for entry in optimizer.state.values() for t in entry.values() if isinstance(t, Tensor))
    grown = growth.mb()
    taken = 0.0 if growth.settled else trained + state  # since the beginning; later both are there already
    return {
        "parameters": _mb([*network.parameters(), *network.buffers()]) + trained + state,
        "activations": UNKNOWN if grown is None else max(0.0, grown - taken),
    }


def _mb(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20
