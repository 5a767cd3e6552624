"""Multi-layer perceptrons, a block per hidden layer: the networks on which greedy training is taught.

x_{j+1} = ρ(W_θj x_j)        x_0: the flattened image, or a row of a table
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from math import prod

from torch import nn

from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.activations import activation_layers
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import Activation, EnsembleOn, Initialisation
from layerwise.models.heads import FullPrecisionLinear


def mlp(
    input_shape: Shape,
    classes: int,
    *,
    k: int,
    widths: Sequence[int],
    head_width: int | None = None,
    activation: Activation = Activation.relu,
    batch_norm: bool = False,
    initialisation: Initialisation = Initialisation.pytorch,
    ensemble_on: EnsembleOn = EnsembleOn.logits,
    depths: Collection[int] | None = None,
    seed: int = 0,
) -> BlockNet:
    """Builds a multi-layer perceptron; each block and head is initialised from its own seed.

    Args:
        input_shape: of x_0, (C, H, W) or (F,); it is flattened.
        classes: number of classes c.
        k: hidden layers of each greedy problem; the heads have k−1.
        widths: of the hidden layers; their number is J.
        head_width: of the heads' hidden layers; None for the width of the block before.
        activation: ρ.
        batch_norm: between W and ρ, and in the heads.
        initialisation: of the weights: pytorch or he_uniform.
        ensemble_on: what the ensemble of the heads averages.
        depths: depths that get a head; all by default.
        seed: of the initialisation.
    """
    sizes = [prod(input_shape), *widths]
    blocks, heads = [], {}
    for j, (wide, out) in enumerate(pairwise(sizes), 1):
        with seeded(key("block", seed, j)):
            hidden = _hidden(wide, out, activation, batch_norm)
            flatten = [nn.Flatten()] if j == 1 else []
            blocks.append(_initialise(nn.Sequential(*flatten, *hidden), initialisation))
        if depths is None or j in depths:
            within = [out] + [head_width or out] * (k - 1)
            with seeded(key("head", seed, j)):
                layers = [layer for a, b in pairwise(within) for layer in _hidden(a, b, activation, batch_norm)]
                head = nn.Sequential(*layers, FullPrecisionLinear(within[-1], classes))
                heads[j] = _initialise(head, initialisation)
    return BlockNet(blocks, heads, ensemble_on)


def _hidden(wide: int, out: int, activation: Activation, batch_norm: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm1d(out)] if batch_norm else []
    return [nn.Linear(wide, out, bias=not batch_norm), *norm, *activation_layers(activation)]


def _initialise(module: nn.Sequential, initialisation: Initialisation) -> nn.Sequential:
    if initialisation is Initialisation.pytorch:
        return module
    for layer in (layer for layer in module if isinstance(layer, nn.Linear)):
        if isinstance(layer, FullPrecisionLinear):  # no ρ follows
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
