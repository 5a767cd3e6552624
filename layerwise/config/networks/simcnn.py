"""`model=simcnn`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from layerwise.config.heads import HEADS, describe_head
from layerwise.config.networks.base import (
    Choices,
    DescribedNetwork,
    NetworkConfig,
    activations,
    check_one_of,
    given,
)
from layerwise.config.paper import simcnn_values
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import Downsampling, Initialisation

if TYPE_CHECKING:  # torch
    from layerwise.data.dataset import DatasetSpec
    from layerwise.models.heads import Head
    from layerwise.models.layers import Norm
    from layerwise.models.simcnn import SimCnn


@dataclass
class SimCnnConfig(NetworkConfig):
    """The keys of conf/model/simcnn.yaml."""

    initialisations: ClassVar = (Initialisation.pytorch, Initialisation.he, Initialisation.dirac)

    kind: str = "simcnn"
    width: int | None = None
    head: str = "cnn"
    head_width: int | None = None
    head_widths: list[int] | None = None
    final_head_width: int | None = None
    downsample: list[int] | None = None
    downsampling: Downsampling | None = None
    input_downsample: bool | None = None
    whiten_input: bool = False
    whiten_patch: int = 3
    whiten_shift: bool = False
    batch_norm: bool | None = None
    bias: bool | None = None
    norm_scale: bool = True
    norm_momentum: float = 0.1
    norm_epsilon: float = 1e-5
    pool: int | None = None
    pool_overlap: bool = True
    head_scale: float = 1.0
    widths: list[int] | None = None
    activation: Any = "relu"  # a name or a list of names by block
    initialisation: Initialisation = Initialisation.pytorch

    def resolve(self, choices: Choices) -> tuple[int, ResolvedSimCnn]:
        check_one_of(self, ("width", "widths"), ("head_width", "head_widths"))
        paper = simcnn_values(choices.k, choices.like_imagenet)
        J = given(self.check_depth(choices, self.fixed_depth(joint=False)), paper.J)
        head_width, head_widths = self.head_width, self.head_widths
        if head_widths is not None and len(head_widths) != J:
            raise LayerwiseError(
                f"model.head_widths={head_widths} are {len(head_widths)} widths for J={J} blocks. Give one for each."
            )
        head_keys = HEADS[self.head].keys
        if "model.head_width" in head_keys and head_width is None and head_widths is None:
            if self.widths is None:
                head_width = paper.head_width
            else:  # as wide beside their blocks as the paper's
                head_widths = [max(1, M * paper.head_width // paper.width) for M in self.widths]
        values = {
            "name": self.label,
            "width": given(self.width, paper.width) if self.widths is None else None,
            "head_width": head_width,
            "head_widths": head_widths,
            "downsample": given(self.downsample, [j for j in paper.downsample if j <= J]),
            "downsampling": given(self.downsampling, paper.downsampling),
            "input_downsample": given(self.input_downsample, paper.input_downsample),
            "batch_norm": given(self.batch_norm, paper.batch_norm),
            "pool": given(self.pool, paper.pool) if "model.pool" in head_keys and not choices.own_heads else None,
        }
        return J, ResolvedSimCnn(**{**vars(self), **values})


@dataclass(kw_only=True)
class ResolvedSimCnn(SimCnnConfig, DescribedNetwork):
    """A SimCNN whose width and head width are each given by one of two keys."""

    name: str
    downsample: list[int]
    downsampling: Downsampling
    input_downsample: bool
    batch_norm: bool

    def architecture(self, k: int, J: int, joint: bool) -> SimCnn:
        from layerwise.models.simcnn import SimCnn

        return SimCnn(
            widths=self._of_each(self.widths, self.width, J),
            heads=self._heads(k, J),
            downsample=self.downsample,
            downsampling=self.downsampling,
            batch_norm=self.batch_norm,
            bias=self._biased(k, J),
            input_downsample=self.input_downsample,
            whiten_input=self.whiten_input,
            whiten_patch=self.whiten_patch,
            whiten_shift=self.whiten_shift,
            activation=activations(self.activation),
            initialisation=self.initialisation,
            norm=self._norm,
        )

    @property
    def _norm(self) -> Norm:
        from layerwise.models.layers import Norm

        return Norm(self.norm_scale, self.norm_momentum, self.norm_epsilon)

    def _of_each(self, widths: list[int] | None, width: int | None, J: int) -> list[int]:
        """The widths of all blocks or heads, from either key."""
        from layerwise.models.simcnn import doubled

        if widths is not None:
            return widths
        assert width is not None, "resolve gives one of them"
        return doubled(width, J, self.downsample)

    def _heads(self, k: int, J: int) -> list[Head]:
        from layerwise.models.layers import activation_of

        named, widths = activations(self.activation), list[int | None]([None] * J)
        if "model.head_width" in HEADS[self.head].keys:
            widths = [*self._of_each(self.head_widths, self.head_width, J)]
            widths[-1] = given(self.final_head_width, widths[-1])
        return [
            describe_head(self, k=k, width=width, activation=activation_of(named, j), norm=self._norm)
            for j, width in enumerate(widths, 1)
        ]

    def _biased(self, k: int, J: int) -> Collection[int] | None:
        """Numbers of the blocks with a bias; null is the paper's code, whose network for k = 1 has one in block 1."""
        if self.bias is not None:
            return range(1, J + 1) if self.bias else ()
        return (1,) if k == 1 and not self.batch_norm else None

    def check_samples(self, spec: DatasetSpec, J: int) -> None:
        from layerwise.models.simcnn import check_resolution

        super().check_samples(spec, J)
        side = min(spec.shape[1:]) // (2 if self.input_downsample else 1)
        for key, value in {"pool": self.pool, "whiten_patch": self.whiten_patch if self.whiten_input else None}.items():
            if value is not None and value > side:
                raise LayerwiseError(
                    f"model.{key}={value}: is more than the {side} pixels of an image's side at block 1. Use less."
                )
        border = self.whiten_patch - 1 if self.whiten_input and self.whiten_patch % 2 == 0 else 0
        check_resolution(spec.shape, J, self.downsample, self.input_downsample, border, self.downsampling)

    def pruned_widths(self, prune_to: int, J: int) -> list[int]:
        """Doubled at each downsampled block, like M."""
        from layerwise.models.simcnn import doubled

        if not HEADS[self.head].can_be_pruned:
            return super().pruned_widths(prune_to, J)
        key = f"plan.prune_to={prune_to}"
        if self.width is None:
            raise LayerwiseError(f"{key} cannot be combined with model.widths. Use model.width.")
        if prune_to >= self.width:
            raise LayerwiseError(f"{key} must be less than model.width={self.width}, the number of filters in block 1.")
        return doubled(prune_to, J, self.downsample)

    def first_blocks(self, depth: int) -> ResolvedSimCnn:
        return replace(
            self,
            widths=None if self.widths is None else self.widths[:depth],
            head_widths=None if self.head_widths is None else self.head_widths[:depth],
            downsample=[j for j in self.downsample if j <= depth],
        )

    @property
    def norms_vectors(self) -> bool:
        return self.batch_norm and (HEADS[self.head].norms_vectors or (self.head == "cnn" and self.pool == 1))
