"""Layerwise compression (the experiment at the end of the paper): a trained block loses its least important filters.

The importance is the Taylor criterion of Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient
Inference (2016, equation 8): the first-order change of the loss if a feature map were zero. A unit of a perceptron is a
filter with a map of one position.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from layerwise.core.distributed import all_reduce_sum
from layerwise.core.errors import LayerwiseError
from layerwise.core.precision import Precision
from layerwise.core.types import Batch
from layerwise.models.block import pruning_obstacle
from layerwise.models.blocknet import BlockNet
from layerwise.training.plan import Stage


def most_important(importance: Tensor, n: int) -> list[int]:
    """Returns the numbers of the n filters with the highest importance [C], in ascending order."""
    return sorted(importance.topk(n).indices.tolist())


def taylor_importance(block: nn.Module, head: nn.Module, batches: Iterable[Batch], precision: Precision) -> Tensor:
    """Returns |mean of ∂loss/∂z · z over positions| of each feature map z, summed over all samples. Collective.

    The loss is the cross-entropy, and of real-valued targets the squared error.

    Args:
        block: trained block, from x_{j−1} to x_j.
        batches: this process's batches of x_{j−1}.

    Returns:
        [C_j] float64.
    """
    block.eval()
    head.eval()
    total: Tensor | None = None
    for inputs, targets in batches:
        with precision.autocast(), torch.no_grad():
            maps = block(inputs)
        maps.requires_grad_(True)
        with precision.autocast():
            scores = head(maps).float()
        if targets.is_floating_point() and targets.dim() == 1:
            loss = F.mse_loss(scores.squeeze(1), targets, reduction="sum")  # per-sample gradients keep their scale
        else:
            loss = F.cross_entropy(scores, targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, maps)
        products = gradient.double() * maps.detach().double()  # [B, C, …]
        products = products.mean((2, 3)) if products.dim() == 4 else products
        products = products.abs().sum(0)  # [C]
        total = products if total is None else total + products
    assert total is not None, "no batches"
    return all_reduce_sum(total)


def check_pruning(network: BlockNet, stages: Iterable[Stage]) -> None:
    """Refuses a plan that prunes a block which cannot lose filters, or one whose readers cannot lose inputs.

    Raises:
        LayerwiseError: names the block, and why.
    """
    for stage in (stage for stage in stages if stage.prune_to is not None):
        for depth in range(stage.stop, min(stage.stop + 1, len(network.blocks)) + 1):
            if obstacle := pruning_obstacle(network.blocks[depth - 1]):
                raise LayerwiseError(
                    f"plan.prune_to={stage.prune_to}: block {depth} cannot be pruned: {obstacle}. "
                    "Use plan.prune_to=null."
                )


def filters_to_keep(
    network: BlockNet, depth: int, n: int, rounds: int, batches: Callable[[], Iterable[Batch]], precision: Precision
) -> list[int]:
    """Returns the numbers of the n filters of a block that stay, in ascending order. Collective.

    In each round about as many filters go, and the importance of the others is measured anew without them.

    Args:
        network: a SimCNN or a perceptron; it is not changed.
        batches: this process's batches of x_{depth−1}.
    """
    trial = copy.deepcopy(network) if rounds > 1 else network
    filters = len(_weighted(network.blocks[depth - 1])[0].weight)
    kept = list(range(filters))
    for i in range(1, rounds + 1):
        importance = taylor_importance(trial.blocks[depth - 1], trial.head(depth), batches(), precision)
        staying = most_important(importance, filters - (filters - n) * i // rounds)
        kept = [kept[position] for position in staying]
        if i < rounds:
            prune_block(trial, depth, staying)
    return kept


def prune_block(network: BlockNet, depth: int, kept: Sequence[int]) -> None:
    """Removes filters (or units) of a block, and the inputs that read them in its head and in the next block.

    Args:
        network: is changed in place.
        kept: numbers of the filters that stay, from 0.
    """
    block, index = network.blocks[depth - 1], torch.tensor(kept)
    (layer,) = _weighted(block)
    filters = len(layer.weight)
    _select(layer, "weight", 0, index)
    _select(layer, "bias", 0, index)
    _resize(layer, "out", len(kept))
    for norm in (module for module in block.modules() if isinstance(module, _BatchNorm)):
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select(norm, name, 0, index)
        norm.num_features = len(kept)
    readers = [network.head(depth)] if depth in network.depths else []
    readers += [network.blocks[depth]] if depth < len(network.blocks) else []
    for reader in readers:
        first = _weighted(reader)[0]
        copies = first.weight.shape[1] // filters  # 4 behind an invertible downsampling: channel c becomes 4c … 4c + 3
        inputs = (index[:, None] * copies + torch.arange(copies)).flatten()
        _select(first, "weight", 1, inputs)
        _resize(first, "in", len(inputs))


def pruned_copy(network: BlockNet, prune_to: Sequence[int]) -> BlockNet:
    """Returns a copy of the network in which block j has only `prune_to[j − 1]` filters."""
    smaller = copy.deepcopy(network)
    for depth, n in enumerate(prune_to, 1):
        prune_block(smaller, depth, range(n))
    return smaller


def _weighted(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def _resize(layer: nn.Module, side: str, size: int) -> None:
    """Notes the number of inputs or outputs of a layer, beside its weights."""
    setattr(layer, f"{side}_{'channels' if isinstance(layer, nn.Conv2d) else 'features'}", size)


def _select(layer: nn.Module, name: str, axis: int, index: Tensor) -> None:
    """Keeps some rows or columns of a parameter or buffer, and its memory format."""
    old = getattr(layer, name)
    if old is None:
        return
    new = old.detach().index_select(axis, index.to(old.device))
    if new.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
        new = new.contiguous(memory_format=torch.channels_last)
    setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)
