"""`model=timm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerwise.config.networks.base import (
    HEADS_OF_ANY_WIDTH,
    Choices,
    DescribedNetwork,
    NetworkConfig,
    head_as_wide_as_its_block,
)
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import EnsembleOn, HeadKind

if TYPE_CHECKING:  # torch
    from layerwise.models.timm_net import TimmStages, TimmWhole


@dataclass
class TimmConfig(NetworkConfig):
    """The keys of conf/model/timm.yaml."""

    heads: ClassVar = HEADS_OF_ANY_WIDTH
    ensemble_on: ClassVar = EnsembleOn.probabilities

    kind: str = "timm"
    head: HeadKind = HeadKind.cnn
    head_width: int | None = None

    @property
    def label(self) -> str:
        return self.name or self.kind

    def fixed_depth(self, joint: bool) -> int:
        from layerwise.models.timm_net import block_count

        return 1 if joint else block_count(self.label)

    def check(self) -> None:
        if not self.name:
            raise LayerwiseError("model=timm: choose a network with model.name, such as model.name=resnet18.")
        super().check()

    def resolve(self, choices: Choices) -> tuple[int, ResolvedTimm]:
        J = self.fixed_depth(choices.joint)
        self.check_depth(choices, J)
        return J, ResolvedTimm(**{**vars(self), "name": self.label})


@dataclass(kw_only=True)
class ResolvedTimm(TimmConfig, DescribedNetwork):
    """A network of timm."""

    name: str

    def architecture(self, k: int, J: int, joint: bool) -> TimmStages | TimmWhole:
        from layerwise.models.timm_net import TimmStages, TimmWhole

        if joint:
            return TimmWhole(self.name)
        return TimmStages(self.name, head_as_wide_as_its_block(self.head, k, self.head_width))
