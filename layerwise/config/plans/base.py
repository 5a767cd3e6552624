"""What the configuration asks of a plan: the keys that it has, and what they become.

A plan is a dataclass of the keys of `plan` with facts about it and a method that resolves the keys. The resolved class,
in which no value is missing, gives the stages (`stages`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from layerwise.config.groups.training import Parallel
from layerwise.config.networks.base import given
from layerwise.config.networks.simcnn import SimCnnConfig
from layerwise.core.errors import LayerwiseError
from layerwise.training.plan import FineTuning, Stage

if TYPE_CHECKING:  # they import this module
    from layerwise.config.resolved import ResolvedConfig
    from layerwise.config.schema import Config

FINETUNE_DIVISOR = 10
"""Training's learning rate over fine-tuning's, unless plan.finetune.lr is given."""


class HeadStart(Enum):
    """Values of `plan.head`: what a new depth's head begins as."""

    fresh = "fresh"
    carried = "carried"
    frozen = "frozen"


@dataclass
class FinetuneConfig:
    """Stages that train all blocks of the grown network together."""

    epochs: int = 0
    lr: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether there are such stages."""
        return self.epochs > 0


@dataclass
class PlanConfig(ABC):
    """The keys of `plan` that every plan has; a subclass for each plan adds its own.

    The properties stand for keys that some plans have, and have the value of a plan without them.

    Attributes:
        name: the key of `plans.PLANS`.
        title: what reports call it, if not by its name.
        whole: whether all blocks learn from the last head alone, so that the network need not be cut into blocks.
        in_turn: whether blocks may be trained in turn, the later ones behind those before them.
        several_heads: whether one stage trains several heads.
        local: whether it trains all blocks at once, and each group of them only learns from its own head.
        reconstructs: whether it may have stages that reconstruct the inputs.
    """

    title: ClassVar[str] = ""
    whole: ClassVar[bool] = False
    in_turn: ClassVar[bool] = False
    several_heads: ClassVar[bool] = False
    local: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = False

    name: str
    epochs: int | None = None
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    frozen_blocks: int = 0

    @property
    def blocks_per_stage(self) -> int:
        return 1

    @property
    def head(self) -> HeadStart:
        return HeadStart.fresh

    @property
    def max_blocks(self) -> int | None:
        return None

    @property
    def patience(self) -> int | None:
        return None

    @property
    def search_fraction(self) -> float | None:
        return None

    @property
    def prune_to(self) -> int | None:
        return None

    @property
    def last_head_width(self) -> int | None:
        return None

    @property
    def reuse(self) -> str | None:
        return None

    def check(self, config: Config) -> None:
        """Refuses what the plan cannot be combined with.

        Raises:
            LayerwiseError: names the keys.
        """
        if self.frozen_blocks == 0:
            return
        others = {
            "plan.prune_to": self.prune_to is not None,
            "plan.head=frozen": self.head is HeadStart.frozen,
            "distributed.parallel=blocks": config.distributed.parallel is Parallel.blocks,
        }
        for key in (key for key, chosen in others.items() if chosen):
            raise LayerwiseError(
                f"plan.frozen_blocks={self.frozen_blocks} cannot be combined with {key}. Leave one of them out."
            )

    @abstractmethod
    def resolve(self, epochs: int, lr: float) -> ResolvedPlan:
        """Returns the keys with nothing left open.

        Args:
            epochs: of each stage, unless the plan's own are given.
            lr: the run's learning rate.
        """

    def _resolved(self, epochs: int, lr: float) -> dict[str, Any]:
        """The values of all keys."""
        tuned = self.finetune
        if tuned.wanted:
            tuned = replace(tuned, lr=given(tuned.lr, lr / FINETUNE_DIVISOR))
        return {**vars(self), "epochs": given(self.epochs, epochs), "finetune": tuned}


@dataclass(kw_only=True)
class ResolvedPlan(PlanConfig):
    """A plan's keys with nothing left open. A subclass narrows the keys' types."""

    epochs: int

    @abstractmethod
    def stages(self, config: ResolvedConfig) -> list[Stage]:
        """Returns the stages before fine-tuning, as if no blocks were to stay as they are."""

    @property
    def finetuning(self) -> FineTuning:
        return FineTuning(self.finetune.epochs, lr=self.finetune.lr)

    def pruned_widths(self, config: ResolvedConfig) -> list[int] | None:
        """Filters that block j keeps, at position j−1; None for all.

        Raises:
            LayerwiseError: the network cannot lose so many.
        """
        return None

    def check_network(self, config: ResolvedConfig) -> None:
        """Refuses what the network and the plan cannot do together.

        Raises:
            LayerwiseError: names the key of the plan.
        """


@dataclass
class GrowingConfig(PlanConfig):
    """A plan that trains depth after depth, until the depth is chosen."""

    in_turn: ClassVar = True

    head: HeadStart = HeadStart.fresh
    max_blocks: int | None = None
    patience: int | None = None
    search_fraction: float | None = None

    def check(self, config: Config) -> None:
        super().check(config)
        if self.max_blocks is not None and config.J not in (None, self.max_blocks):
            raise LayerwiseError(
                f"plan.max_blocks={self.max_blocks} conflicts with J={config.J}; set only one of them."
            )
        for key, value in {"plan.patience": self.patience, "plan.search_fraction": self.search_fraction}.items():
            if value is None:
                continue
            if config.dataset.validation == 0 and config.dataset.folds is None:
                raise LayerwiseError(
                    f"{key}={value} needs validation samples to choose the depth: dataset.validation=0.1."
                )
            if isinstance(config.model, SimCnnConfig) and config.model.final_head_width is not None:
                raise LayerwiseError(
                    f"{key}={value} cannot be combined with model.final_head_width: the last head is not known in "
                    "advance. Leave one of them out."
                )

    @property
    def carries(self) -> bool:
        """Whether a head begins with the weights of the one before."""
        return self.head is not HeadStart.fresh


@dataclass(kw_only=True)
class ResolvedGrowing(GrowingConfig, ResolvedPlan):
    """A plan that trains depth after depth."""

    def freeze_heads(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages, in which carried heads stay as they are if `head` says so."""
        frozen = self.head is HeadStart.frozen
        return [replace(stage, freeze_head=frozen and stage.carry_from is not None) for stage in stages]
