"""`model=own`: a network whose blocks a function of another package gives (`model._target_`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerwise.config.networks.base import (
    HEADS_OF_ANY_WIDTH,
    Choices,
    NetworkConfig,
    ResolvedNetwork,
    head_as_wide_as_its_block,
)
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import HeadKind

if TYPE_CHECKING:  # torch
    from torch import nn

    from layerwise.core.types import Shape
    from layerwise.data.dataset import DatasetSpec


@dataclass
class OwnConfig(NetworkConfig):
    """The keys of conf/model/own.yaml; all others are arguments of the function."""

    heads: ClassVar = HEADS_OF_ANY_WIDTH

    kind: str = "own"
    head: HeadKind = HeadKind.cnn
    head_width: int | None = None

    @property
    def label(self) -> str:
        return self.name or self.kind

    def resolve(self, choices: Choices) -> tuple[int, ResolvedOwn]:
        function = choices.function
        if function is None:
            raise LayerwiseError("model=own: name a function with model._target_, such as mypkg.networks.build.")
        J = choices.J if choices.J is not None else function.default("J")
        if not isinstance(J, int):
            raise LayerwiseError(f"{function.key}: has no default for J, the number of blocks. Give {choices.J_key}=N.")
        return J, ResolvedOwn(**{**vars(self), "name": self.name or function.target})


@dataclass(kw_only=True)
class ResolvedOwn(OwnConfig, ResolvedNetwork):
    """The heads of a network of another package."""

    name: str

    def build_head(self, shape: Shape, classes: int, k: int, depth: int) -> nn.Module:
        """Returns the head at a depth.

        Args:
            shape: of x_j.

        Raises:
            LayerwiseError: `model.head` does not read such outputs.
        """
        from layerwise.models.heads import VectorHead

        if len(shape) == 1 and self.head is HeadKind.cnn:
            return VectorHead(k, self.head_width).build(shape, classes)
        if len(shape) != 3:
            size = "×".join(map(str, shape))
            raise LayerwiseError(
                f"model.head={self.head.value}: does not read the outputs of block {depth}, which are {size}. Use a "
                "head of your own (model.head._target_)."
            )
        return head_as_wide_as_its_block(self.head, k, self.head_width).build(shape, classes)

    def check_samples(self, spec: DatasetSpec, J: int) -> None:
        """The function says what it reads."""
