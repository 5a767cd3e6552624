"""What a stage begins with: the head of the depth before, and perhaps a block that is the identity.

With P = Id, W = Id and the previous classifier, the new problem starts at the risk where the old one
ended, because ρ ∘ ρ = ρ: Proposition 3.1 made executable.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from layerwise.core.distributed import all_reduce_mean
from layerwise.core.types import Batch
from layerwise.models.blocknet import BlockNet

STATISTICS_BATCHES = 8


def carry_head(readers: nn.ModuleDict, before: int, depth: int) -> bool:
    """Copies the weights of a trained head or decoder to the one at another depth; the trained one stays as it is.

    Args:
        readers: heads or decoders by depth.
        before: depth whose weights are taken.
        depth: depth that gets them.

    Returns:
        False if the two differ in shape: then nothing is copied.
    """
    trained, new = readers[str(before)].state_dict(), readers[str(depth)].state_dict()
    if [value.shape for value in trained.values()] != [value.shape for value in new.values()]:
        return False
    readers[str(depth)].load_state_dict(trained)
    return True


@torch.no_grad()
def warm_start(network: BlockNet, depth: int, features: Iterable[Batch]) -> None:
    """Makes block `depth` the identity.

    A batch norm becomes the identity by taking mean and variance of its input both as statistics
    and as shift and scale; they are estimated on the first batches.

    Args:
        network: its block `depth` is a convolution, perhaps a batch norm, and a ReLU, not downsampled.
        depth: j ≥ 2.
        features: batches of x_{j−1}.
    """
    for layer in network.blocks[depth - 1].children():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, _BatchNorm):
            _make_identity(layer, *_statistics(batch.inputs for batch in islice(features, STATISTICS_BATCHES)))


def _make_identity(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.bias.copy_(mean)
    norm.weight.copy_((variance + norm.eps).sqrt())


def _statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance [C] per channel of all processes' [B, C, H, W] batches, each batch weighted alike."""
    means, squares = [], []
    for x in batches:
        means.append(x.double().mean((0, 2, 3)))
        squares.append(x.double().square().mean((0, 2, 3)))
    mean, square = all_reduce_mean(torch.stack(means).mean(0)), all_reduce_mean(torch.stack(squares).mean(0))
    return mean.float(), (square - mean.square()).clamp_min(0).float()
