"""How weights begin, where PyTorch's own initialisation is not to stay."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from layerwise.models.choices import Initialisation

M = TypeVar("M", bound=nn.Module)


def initialise_convolutions(module: M, initialisation: Initialisation, identity: bool = False) -> M:
    """Begins the convolutions of a module anew, in place.

    Args:
        module: with PyTorch's initialisation.
        initialisation: he, dirac, or pytorch, which stays.
        identity: it is a block, in which `dirac` makes copies of the input.
    """
    for layer in (layer for layer in module.modules() if isinstance(layer, nn.Conv2d)):
        if initialisation is Initialisation.he:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif initialisation is Initialisation.dirac and identity:
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    return module
