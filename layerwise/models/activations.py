"""ρ, what follows each linear operator of a block and of its head."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from layerwise.models.choices import Activation

_LAYERS: dict[Activation, Callable[[], list[nn.Module]]] = {
    Activation.relu: lambda: [nn.ReLU(inplace=True)],
    Activation.gelu: lambda: [nn.GELU()],
    Activation.silu: lambda: [nn.SiLU()],
    Activation.tanh: lambda: [nn.Tanh()],
    Activation.none: list,
}


def activation_layers(activation: Activation) -> list[nn.Module]:
    """ρ as layers: one, or none for the identity. Where it can, it overwrites its input."""
    return _LAYERS[activation]()
