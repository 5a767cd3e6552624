"""Multi-layer perceptrons, a block per hidden layer: the networks on which greedy training is taught.

x_{j+1} = ρ(W_θj x_j)        x_0: the flattened image, or a row of a table
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.block import Block
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Activation, Initialisation
from layerwise.models.heads import FullPrecisionLinear
from layerwise.models.layers import Activations, activation_layers, activation_of

SPREAD = 0.05
"""Bound of uniform initial weights, and the value of constant ones."""

_WEIGHTS: dict[Initialisation, Callable[[Tensor], Tensor]] = {
    Initialisation.he_uniform: lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    Initialisation.glorot_uniform: nn.init.xavier_uniform_,
    Initialisation.glorot_normal: nn.init.xavier_normal_,
    Initialisation.uniform: lambda weight: nn.init.uniform_(weight, -SPREAD, SPREAD),
    Initialisation.constant: lambda weight: nn.init.constant_(weight, SPREAD),
}


@dataclass(frozen=True)
class Mlp:
    """Describes a multi-layer perceptron.

    Attributes:
        widths: of the hidden layers; their number is J.
        k: hidden layers of each greedy problem; the heads have k−1.
        head_width: of the heads' hidden layers; None for the width of the block before.
        activation: ρ, that of a block also in its head.
        batch_norm: between W and ρ, and in the heads.
        initialisation: of the weights: pytorch or a key of `_WEIGHTS`.
        dropout: probability that a unit of a hidden layer is set to zero in training.
    """

    widths: Sequence[int]
    k: int = 1
    head_width: int | None = None
    activation: Activations = Activation.relu
    batch_norm: bool = False
    initialisation: Initialisation = Initialisation.pytorch
    dropout: float = 0.0

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation; each block and head has a seed of its own. x_0 is flattened."""
        blocks, heads = [], {}
        for j, (wide, out) in enumerate(pairwise([prod(shape), *self.widths]), 1):
            flatten = [nn.Flatten()] if j == 1 else []
            with seeded(key("block", seed, j)):
                blocks.append(self._initialised(Block(*flatten, *self._hidden(wide, out, j))))
            if depths is None or j in depths:
                within = [out] + [self.head_width or out] * (self.k - 1)
                with seeded(key("head", seed, j)):
                    layers = [layer for a, b in pairwise(within) for layer in self._hidden(a, b, j)]
                    heads[j] = self._initialised(nn.Sequential(*layers, FullPrecisionLinear(within[-1], classes)))
        return BlockNet(blocks, heads)

    def _hidden(self, wide: int, out: int, j: int) -> list[nn.Module]:
        norm = [nn.BatchNorm1d(out)] if self.batch_norm else []
        dropout = [nn.Dropout(self.dropout)] if self.dropout else []
        rho = activation_layers(activation_of(self.activation, j))
        return [nn.Linear(wide, out, bias=not self.batch_norm), *norm, *rho, *dropout]

    def _initialised(self, module: nn.Sequential) -> nn.Sequential:
        if self.initialisation is Initialisation.pytorch:
            return module
        for layer in (layer for layer in module if isinstance(layer, nn.Linear)):
            he_uniform = self.initialisation is Initialisation.he_uniform
            no_rho_follows = isinstance(layer, FullPrecisionLinear)
            kind = Initialisation.glorot_uniform if he_uniform and no_rho_follows else self.initialisation
            _WEIGHTS[kind](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        return module
