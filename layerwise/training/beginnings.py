"""The weights that a stage begins with, where they are not the network's initialisation.

A carried head or decoder begins as the trained one before it. A warm start makes the new block the identity: with
P = Id, W = Id and the previous classifier the new problem starts at the risk where the old one ended, because
ρ ∘ ρ = ρ (the paper's proposition 3.1). A whitening of the input is fitted to the training images, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from layerwise.core.distributed import all_reduce_mean, all_reduce_sum
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import below, bits, key
from layerwise.core.types import Batch
from layerwise.data.dataset import Dataset
from layerwise.models.block import identity_obstacle
from layerwise.models.blocknet import BlockNet
from layerwise.models.layers import Whitening, patches
from layerwise.training.plan import Stage

STATISTICS_BATCHES = 8
"""Batches from which a warm start estimates the statistics of a batch norm."""

WHITENED_IMAGES = 2_000
"""About how many training images a whitening is fitted to, where there are more."""

PATCH_VALUES = 2**25
"""Upper bound on the float64 values of the patches that are in memory at once."""


def carry_head(readers: nn.ModuleDict, before: int, depth: int) -> bool:
    """Copies the weights of a trained head or decoder to the one at another depth.

    Args:
        before: depth of the trained one, which does not change.
        depth: depth of the one that gets its weights.

    Returns:
        False if the two differ in shape; then nothing is copied.
    """
    if not have_same_shape(readers, before, depth):
        return False
    readers[str(depth)].load_state_dict(readers[str(before)].state_dict())
    return True


def have_same_shape(readers: nn.ModuleDict, *depths: int) -> bool:
    """Whether the heads or decoders at some depths can have each other's weights."""
    shapes = [[value.shape for value in readers[str(depth)].state_dict().values()] for depth in depths]
    return all(shape == shapes[0] for shape in shapes)


def check_warm_starts(network: BlockNet, stages: Iterable[Stage]) -> None:
    """Refuses a plan with a block that cannot begin as the identity, or a head that cannot begin as the one before.

    Raises:
        LayerwiseError: names the block, and why.
    """
    for stage in (stage for stage in stages if stage.warm_start):
        depth, before = stage.stop, stage.stop - 1
        if obstacle := identity_obstacle(network.blocks[depth - 1], network.blocks[before - 1]):
            raise LayerwiseError(
                f"plan.warm_start=true: block {depth} cannot begin as the identity: {obstacle}. Blocks of one width "
                "with ReLU and without downsampling or dropout can; or use plan.warm_start=false."
            )
        if not have_same_shape(network.heads, before, depth):
            raise LayerwiseError(
                f"plan.warm_start=true: the head at depth {depth} has another shape than the one at depth {before}, "
                "of which it would begin as a copy. Use heads of one width, or plan.warm_start=false."
            )


@torch.no_grad()
def warm_start(network: BlockNet, depth: int, features: Iterable[Batch]) -> None:
    """Makes block `depth` the identity. Collective.

    A batch norm becomes the identity if the mean and variance of its input are both its statistics and its shift and
    scale; they are estimated on the first `STATISTICS_BATCHES` batches.

    Args:
        network: network whose block `depth` can be the identity (`check_warm_starts`).
        depth: j ≥ 2.
        features: batches of x_{j−1}.
    """
    for layer in network.blocks[depth - 1].children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            (nn.init.dirac_ if isinstance(layer, nn.Conv2d) else nn.init.eye_)(layer.weight)
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
    """Returns mean and variance [C] per channel over batches of all processes, with equal weights.

    Args:
        batches: [B, C, H, W] or [B, C].
    """
    means, squares = [], []
    for x in batches:
        axes = (0, *range(2, x.dim()))
        means.append(x.double().mean(axes))
        squares.append(x.double().square().mean(axes))
    mean, square = all_reduce_mean(torch.stack(means).mean(0)), all_reduce_mean(torch.stack(squares).mean(0))
    return mean.float(), (square - mean.square()).clamp_min(0).float()


@torch.no_grad()
def whiten_input(network: BlockNet, data: Dataset) -> None:
    """Fits the whitening of block 1, if it has one, to the training images without augmentation. Collective.

    The number of an image in the data set alone decides whether it is used. So the fit does not depend on the seed, and
    on the number of processes only by rounding.
    """
    layers = list(network.blocks[0].children())
    found = [i for i, layer in enumerate(layers) if isinstance(layer, Whitening)]
    if not found:
        return
    before, layer = layers[: found[0]], layers[found[0]]
    assert isinstance(layer, Whitening)
    split = data.splits["train"]
    used = below(bits(key("whitening"), split.samples), len(data.labels["train"]), lane=0) < WHITENED_IMAGES
    order = used.nonzero().flatten()
    dimensions, pixels = layer.dimensions, data.spec.shape[1] * data.spec.shape[2]
    sums = torch.zeros(dimensions, dimensions + 2, dtype=torch.float64, device=data.device)  # of x xᵀ, x and 1
    for batch in data.batches("train", order, max(1, PATCH_VALUES // (pixels * dimensions))):
        x = batch.inputs
        for step in before:
            x = step(x)
        rows = patches(x.double(), layer.patch)  # [n, C·side²]
        sums[:, :-2] += rows.T @ rows
        sums[:, -2] += rows.sum(0)
        sums[:, -1] += len(rows)
    means = all_reduce_sum(sums) / sums[:, -1:]
    second, mean = means[:, :-2], means[:, -2]
    layer.fit(mean, second - mean[:, None] * mean)
