"""`model=own`: a network whose blocks a function of another package gives (`model._target_`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerwise.config.heads import HEADS, describe_head
from layerwise.config.networks.base import Choices, NetworkConfig, ResolvedNetwork
from layerwise.core.errors import LayerwiseError

if TYPE_CHECKING:  # torch
    from torch import nn

    from layerwise.core.types import Shape
    from layerwise.data.dataset import DatasetSpec


@dataclass
class OwnConfig(NetworkConfig):
    """The keys of conf/model/own.yaml; all others are arguments of the function."""

    kind: str = "own"
    head: str = "cnn"
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
        if len(shape) not in HEADS[self.head].dimensions:
            size = "×".join(map(str, shape))
            raise LayerwiseError(
                f"model.head={self.head}: does not read the outputs of block {depth}, which are {size}. Use a "
                "head of your own (model.head._target_)."
            )
        return describe_head(self, k=k).build(shape, classes)

    def check_samples(self, spec: DatasetSpec, J: int) -> None:
        """The function says what it reads."""
