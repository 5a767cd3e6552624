"""What the configuration asks of a network: the keys that it has, and what they become.

A kind of network is a dataclass of the keys of `model` with a method that resolves them. The resolved class, in which
no value is missing, describes the network itself (`architecture`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from layerwise.config.heads import heads_of
from layerwise.config.outside import Outside
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import Activation, EnsembleOn, Initialisation

if TYPE_CHECKING:  # torch
    from layerwise.data.dataset import DatasetSpec
    from layerwise.models.blocknet import Architecture

T = TypeVar("T")

TIMM = "timm"
"""The value of `model.pretrained` for the weights that timm offers."""


@dataclass(frozen=True)
class Choices:
    """What else is chosen that a network depends on.

    Attributes:
        J: number of blocks that is asked for, or None.
        J_key: the key that asks for it.
        like_imagenet: whether null is the paper's value for ImageNet.
        plan: its name.
        function: of another package, that gives the blocks of model=own.
        own_heads: whether the heads are those of another package.
    """

    k: int
    J: int | None
    J_key: str
    like_imagenet: bool
    plan: str
    joint: bool
    function: Outside | None = None
    own_heads: bool = False


@dataclass
class NetworkConfig(ABC):
    """The keys of `model` that every network has; a subclass for each kind of network adds its own.

    Attributes:
        kind: the key of `networks.NETWORKS`.
        name: in tables and folder names; of timm's networks the user gives it, to the others `resolve` does.
        pretrained: folder of a run whose blocks begin those of this one, or `TIMM`.
    """

    initialisations: ClassVar[tuple[Initialisation, ...]] = ()  # the values of this key that it supports, if it has it
    ensemble_on: ClassVar[EnsembleOn | None] = None  # what its ensemble averages, whatever the data

    kind: str
    name: str | None = None
    pretrained: str | None = None

    @property
    def label(self) -> str:
        """The network's name in tables and folder names: `simcnn`, `vgg11`, `resnet18`."""
        return self.kind

    def fixed_depth(self, joint: bool) -> int | None:
        """J where the network decides it, as a list of widths does; None where it can be chosen.

        Args:
            joint: with plan=joint, which may leave the network whole.

        Raises:
            LayerwiseError: there is no such network, or it cannot be cut into blocks.
        """
        widths: list[int] | None = getattr(self, "widths", None)
        return None if widths is None else len(widths)

    def check(self) -> None:
        """Refuses a head, an initialisation or an activation that the network does not support.

        Raises:
            LayerwiseError: names the key.
        """
        initialisations = [one.value for one in self.initialisations]
        for name, supported in {"head": heads_of(self.kind), "initialisation": initialisations}.items():
            found = getattr(self, name, None)
            chosen = getattr(found, "value", found)
            if chosen is not None and chosen not in supported:
                known = ", ".join(supported)
                raise LayerwiseError(f"model={self.kind} does not support model.{name}={chosen}. Use {known}.")
        if self.pretrained == TIMM != self.kind:
            raise LayerwiseError(
                f"model.pretrained=timm: timm has no weights for model={self.kind}. Name the folder of a run."
            )
        if (named := getattr(self, "activation", None)) is not None:
            activations(named)

    @abstractmethod
    def resolve(self, choices: Choices) -> tuple[int, ResolvedNetwork]:
        """Returns J, and the keys with nothing left open.

        Raises:
            LayerwiseError: a depth that the network does not have, or keys that contradict each other.
        """

    def check_depth(self, choices: Choices, fixed: int | None) -> int | None:
        """Returns J if something decides it.

        Args:
            fixed: number of blocks that the network has, if it has a fixed one.

        Raises:
            LayerwiseError: the keys contradict each other.
        """
        key, wanted = choices.J_key, choices.J
        if fixed is None:
            return wanted
        if wanted in (None, fixed):
            return fixed
        widths = getattr(self, "widths", None)
        if widths is not None:
            raise LayerwiseError(
                f"{key}={wanted} conflicts with model.widths={widths} of {fixed} block(s). Leave {key} out."
            )
        raise LayerwiseError(
            f"{key}={wanted}: {self.label} has {fixed} block(s) with plan={choices.plan}. Use {key}=null."
        )


@dataclass
class ResolvedNetwork(NetworkConfig):
    """A network's keys with nothing left open. A subclass narrows the keys' types."""

    def check_samples(self, spec: DatasetSpec, J: int) -> None:
        """Refuses data that the network cannot read.

        Raises:
            LayerwiseError: names the network and the data set.
        """
        if not spec.has_images:
            raise LayerwiseError(
                f"model={self.kind} is for images, and a sample of dataset={spec.name} is a vector of "
                f"{spec.shape[0]} number(s). Use model=mlp."
            )

    def pruned_widths(self, prune_to: int, J: int) -> list[int]:
        """Filters that block j keeps, at position j−1, if block 1 keeps `prune_to`.

        Raises:
            LayerwiseError: the network loses no filters, or these are not fewer.
        """
        raise LayerwiseError(
            f"plan.prune_to={prune_to}: model={self.kind} cannot be pruned. Use model=simcnn with "
            "model.head=cnn, or model=mlp."
        )

    def first_blocks(self, depth: int) -> ResolvedNetwork:
        """The keys of the same network with fewer blocks."""
        return self

    @property
    def norms_vectors(self) -> bool:
        """Whether a batch norm reads vectors, so that a batch needs two samples."""
        return True

    @property
    def first_width(self) -> int | None:
        """M, the width of block 1, where a key says it."""
        return _first_of(self, "widths", "width")

    @property
    def first_head_width(self) -> int | None:
        """M̃, the width of the first head, where a key says it."""
        return _first_of(self, "head_widths", "head_width")


@dataclass
class DescribedNetwork(ResolvedNetwork):
    """A network of this package: its keys describe its blocks."""

    @abstractmethod
    def architecture(self, k: int, J: int, joint: bool) -> Architecture:
        """Returns the description of the network.

        Args:
            joint: with plan=joint, which may leave the network whole.
        """


def _first_of(model: NetworkConfig, several: str, one: str) -> int | None:
    """The first of a list of widths, or else the one width; None where the network has neither key."""
    widths: list[int] | None = getattr(model, several, None)
    return widths[0] if widths else getattr(model, one, None)


def activations(named: Any) -> list[Activation]:
    """The activations that `model.activation` names, one or a list by block.

    Raises:
        LayerwiseError: there is no such activation.
    """
    names = named if isinstance(named, list) else [named]
    known = [one.value for one in Activation]
    for name in names or [named]:
        if name not in known:
            raise LayerwiseError(
                f"model.activation={named}: use {', '.join(known)}, or a list of these by block, such as [relu,none]."
            )
    return [Activation(name) for name in names]


def given(value: T | None, otherwise: T) -> T:
    """A value, or another one where it is null."""
    return otherwise if value is None else value


def check_one_of(model: Any, *pairs: tuple[str, str]) -> None:
    """Refuses a width beside a list of widths.

    Raises:
        LayerwiseError: names both keys.
    """
    for one, several in pairs:
        if (width := getattr(model, one)) is not None and (widths := getattr(model, several)) is not None:
            raise LayerwiseError(f"model.{one}={width} conflicts with model.{several}={widths}; set only one of them.")
