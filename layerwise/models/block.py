"""A block as a row of layers, and what a plan may do with it besides training its weights."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class Block(nn.Sequential):
    """Layers in order. It says what it can do; a block that is another module can only be trained."""

    def identity_obstacle(self, before: nn.Module) -> str | None:
        """Returns why it cannot begin as the identity on the outputs of the block before it; None if it can."""
        other = [type(layer).__name__ for layer in self if not isinstance(layer, _LINEAR | _BatchNorm | nn.ReLU)]
        if other:
            return f"it has a layer {other[0]}"
        linear = [layer for layer in self if isinstance(layer, _LINEAR)]
        if len(linear) != 1 or linear[0] is not self[0]:
            return "it does not begin with its only layer of weights"
        first = linear[0]
        if isinstance(first, nn.Conv2d):
            width, out = first.in_channels, first.out_channels
            same = [(size // 2, 1) for size in first.kernel_size]
            if list(zip(first.padding, first.stride, strict=True)) != same or first.groups > 1:
                return "its convolution changes the resolution, or has groups"
        else:
            width, out = first.in_features, first.out_features
        if width != out:
            return f"it has {width} inputs and {out} outputs"
        if isinstance(self[-1], nn.ReLU) and not (
            isinstance(before, nn.Sequential) and isinstance(before[-1], nn.ReLU)
        ):
            return "its ReLU would cut negative outputs of the block before it"
        return None

    def pruning_obstacle(self) -> str | None:
        """Returns why filters or units cannot be removed from it, or from the block before it; None if they can."""
        weights = [layer for layer in self if isinstance(layer, _LINEAR)]
        return None if len(weights) == 1 else "it does not have one layer of weights"


_LINEAR = nn.Conv2d | nn.Linear


def identity_obstacle(block: nn.Module, before: nn.Module) -> str | None:
    """As `Block.identity_obstacle`, for any module."""
    return block.identity_obstacle(before) if isinstance(block, Block) else _other(block)


def pruning_obstacle(block: nn.Module) -> str | None:
    """As `Block.pruning_obstacle`, for any module."""
    return block.pruning_obstacle() if isinstance(block, Block) else _other(block)


def _other(block: nn.Module) -> str:
    return f"a block of the class {type(block).__name__} does not say how"
