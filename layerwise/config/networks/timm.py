"""`model=timm`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from layerwise.config.heads import describe_head
from layerwise.config.networks.base import Choices, DescribedNetwork, NetworkConfig
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import EnsembleOn

if TYPE_CHECKING:  # torch
    from layerwise.models.timm_net import TimmStages, TimmWhole

OURS = ("in_chans", "num_classes", "img_size", "pretrained", "features_only", "out_indices", "output_stride")
"""Arguments of timm's networks that follow from the data and the plan."""


@dataclass
class TimmConfig(NetworkConfig):
    """The keys of conf/model/timm.yaml.

    Attributes:
        options: further arguments of the network, such as patch_size, as its function in timm names them.
    """

    ensemble_on: ClassVar = EnsembleOn.probabilities

    kind: str = "timm"
    head: str = "cnn"
    head_width: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.name or self.kind

    def fixed_depth(self, joint: bool) -> int:
        from layerwise.models.timm_net import block_count

        return 1 if joint else block_count(self.label, self.options)

    def check(self) -> None:
        if not self.name:
            raise LayerwiseError("model=timm: choose a network with model.name, such as model.name=resnet18.")
        for name in self.options:
            if name in OURS:
                raise LayerwiseError(f"model.options.{name}: follows from the data and the plan. Leave it out.")
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
            return TimmWhole(self.name, self.options)
        return TimmStages(self.name, describe_head(self, k=k), self.options)
