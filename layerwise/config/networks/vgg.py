"""`model=vgg` and `model=alexnet`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerwise.config.networks.base import Choices, DescribedNetwork, NetworkConfig, given
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import EnsembleOn

if TYPE_CHECKING:  # torch
    from layerwise.models.vgg import Vgg


@dataclass
class AlexNetConfig(NetworkConfig):
    """The keys of conf/model/alexnet.yaml."""

    ensemble_on: ClassVar = EnsembleOn.probabilities  # as the paper's code for VGG

    kind: str = "alexnet"
    width: int | None = None

    def layers(self) -> list[str | int]:
        """Widths and max poolings, as `models.vgg` has them."""
        from layerwise.models.vgg import ALEXNET_LAYERS

        return ALEXNET_LAYERS

    def fixed_depth(self, joint: bool) -> int:
        from layerwise.models.vgg import block_count

        return block_count(self.layers())

    def resolve(self, choices: Choices) -> tuple[int, ResolvedAlexNet]:
        from layerwise.models.vgg import FIRST_WIDTH

        J = self.fixed_depth(joint=False)
        self.check_depth(choices, J)
        resolved = ResolvedVgg if isinstance(self, VggConfig) else ResolvedAlexNet
        return J, resolved(**{**vars(self), "name": self.label, "width": given(self.width, FIRST_WIDTH)})


@dataclass(kw_only=True)
class ResolvedAlexNet(AlexNetConfig, DescribedNetwork):
    """A network of a VGG-like list of layers."""

    name: str
    width: int

    def architecture(self, k: int, J: int, joint: bool) -> Vgg:
        from layerwise.models.vgg import Vgg

        return Vgg(self.layers(), k, self.width)


@dataclass
class VggConfig(AlexNetConfig):
    """The keys of conf/model/vgg.yaml."""

    kind: str = "vgg"
    depth: int = 11

    @property
    def label(self) -> str:
        return f"vgg{self.depth}"

    def layers(self) -> list[str | int]:
        from layerwise.models.vgg import VGG_LAYERS

        if self.depth not in VGG_LAYERS:
            known = ", ".join(map(str, VGG_LAYERS))
            raise LayerwiseError(f"model.depth={self.depth}: there is no such VGG. Known: {known}.")
        return VGG_LAYERS[self.depth]


@dataclass(kw_only=True)
class ResolvedVgg(VggConfig, ResolvedAlexNet):
    """A VGG."""
