"""`model=mlp`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from layerwise.config.networks.base import (
    Choices,
    DescribedNetwork,
    NetworkConfig,
    activations,
    check_one_of,
    given,
)
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import Initialisation

if TYPE_CHECKING:  # torch
    from layerwise.data.dataset import DatasetSpec
    from layerwise.models.mlp import Mlp

WIDTH, BLOCKS = 256, 3
"""The hidden layers, unless they are given."""


@dataclass
class MlpConfig(NetworkConfig):
    """The keys of conf/model/mlp.yaml."""

    initialisations: ClassVar = tuple(one for one in Initialisation if one.value not in ("he", "dirac"))

    kind: str = "mlp"
    width: int | None = None
    head_width: int | None = None
    batch_norm: bool | None = None
    widths: list[int] | None = None
    activation: Any = "relu"  # a name or a list of names by block
    initialisation: Initialisation = Initialisation.pytorch
    dropout: float = 0.0

    def resolve(self, choices: Choices) -> tuple[int, ResolvedMlp]:
        check_one_of(self, ("width", "widths"))
        J = given(self.check_depth(choices, self.fixed_depth(joint=False)), BLOCKS)
        values = {
            "name": self.label,
            "width": None,
            "widths": given(self.widths, [given(self.width, WIDTH)] * J),
            "batch_norm": given(self.batch_norm, False),
        }
        return J, ResolvedMlp(**{**vars(self), **values})


@dataclass(kw_only=True)
class ResolvedMlp(MlpConfig, DescribedNetwork):
    """A perceptron whose widths are all given."""

    name: str
    widths: list[int]
    batch_norm: bool

    def architecture(self, k: int, J: int, joint: bool) -> Mlp:
        from layerwise.models.mlp import Mlp

        rest = (self.batch_norm, self.initialisation, self.dropout)
        return Mlp(self.widths, k, self.head_width, activations(self.activation), *rest)

    def check_samples(self, spec: DatasetSpec, J: int) -> None:
        """It reads images and vectors."""

    def pruned_widths(self, prune_to: int, J: int) -> list[int]:
        if prune_to >= (narrowest := min(self.widths)):
            raise LayerwiseError(f"plan.prune_to={prune_to} must be less than {narrowest}, the narrowest hidden layer.")
        return [prune_to] * J

    def first_blocks(self, depth: int) -> ResolvedMlp:
        return replace(self, widths=self.widths[:depth])

    @property
    def norms_vectors(self) -> bool:
        return self.batch_norm
