"""`model=resnet_cifar`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from layerwise.config.heads import HEADS, describe_head
from layerwise.config.networks.base import Choices, DescribedNetwork, NetworkConfig, given
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import Shortcut

if TYPE_CHECKING:  # torch
    from layerwise.core.types import Shape
    from layerwise.models.heads import Head
    from layerwise.models.resnet_cifar import ResNetCifar


@dataclass
class ResNetCifarConfig(NetworkConfig):
    """The keys of conf/model/resnet_cifar.yaml."""

    kind: str = "resnet_cifar"
    depth: int = 32
    width: int = 16
    modules: Any = None  # a number or a list of sizes
    shortcut: Shortcut = Shortcut.identity
    head: str = "cnn"
    head_width: int | None = None
    head_depth: int = 2
    tail: int = 1

    @property
    def label(self) -> str:
        return f"resnet{self.depth}"

    @property
    def layers(self) -> int:
        """The stem and the units.

        Raises:
            LayerwiseError: there is no such depth.
        """
        if self.depth < 8 or (self.depth - 2) % 6:
            raise LayerwiseError(f"model.depth={self.depth}: must be 6n + 2, such as 20, 32 or 110.")
        return (self.depth - 2) // 2 + 1

    @property
    def in_heads(self) -> int:
        """Number of the last modules that every head has a copy of, and that are no blocks."""
        return self.tail if "model.tail" in HEADS[self.head].keys else 0

    def fixed_depth(self, joint: bool) -> int | None:
        if self.modules is None:
            return None
        return (len(self.modules) if isinstance(self.modules, list) else self.modules) - self.in_heads

    def resolve(self, choices: Choices) -> tuple[int, ResolvedResNetCifar]:
        from layerwise.models.resnet_cifar import equal_sizes

        layers, modules = self.layers, self.modules
        J = given(self.check_depth(choices, self.fixed_depth(joint=False)), layers - self.in_heads)
        asked = f"{choices.J_key}={J}" if modules is None else f"model.modules={modules}"
        if J < 1:
            raise LayerwiseError(f"model.tail={self.tail}: {asked} leaves no block in front of the tail. Use less.")
        K = J + self.in_heads
        sizes = modules if isinstance(modules, list) else equal_sizes(layers, min(K, layers))
        if max(K, sum(sizes)) > layers:
            raise LayerwiseError(
                f"{asked}: {self.label} has {layers} layers, the stem and {layers - 1} units. Use less."
            )
        if isinstance(modules, list) and sum(sizes) < layers:
            raise LayerwiseError(
                f"{asked}: {self.label} has {layers} layers, the stem and {layers - 1} units, and these are "
                f"{sum(sizes)}. Give sizes of all, or a smaller model.depth."
            )
        return J, ResolvedResNetCifar(**{**vars(self), "name": self.label, "modules": sizes})


@dataclass(kw_only=True)
class ResolvedResNetCifar(ResNetCifarConfig, DescribedNetwork):
    """A ResNet with the sizes of its modules."""

    name: str
    modules: list[int]

    def architecture(self, k: int, J: int, joint: bool) -> ResNetCifar:
        from layerwise.models.heads import CnnHead
        from layerwise.models.resnet_cifar import GROUPS, ResNetCifar, layer_shapes

        units = self.layers // GROUPS
        layers = layer_shapes(units, self.width)
        known = {"k": k, "J": J, "layers": layers, "inside": len(layers) - sum(self.modules[J:]), "most": layers[-1][0]}

        def head(depth: int, behind: int, image_shape: Shape) -> Head:
            if depth == J and not self.in_heads:
                return CnnHead(k=1, batch_norm=False, pool=1)  # the network's own classifier
            return describe_head(self, **known, depth=depth, behind=behind, image_shape=image_shape)

        return ResNetCifar(units, self.modules[:J], head, self.width, self.shortcut)

    def first_blocks(self, depth: int) -> ResolvedResNetCifar:
        return replace(self, modules=self.modules[:depth] + self.modules[len(self.modules) - self.in_heads :])
