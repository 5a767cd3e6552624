"""`plan=own`: a plan whose stages a function of another package gives (`plan._target_`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerwise.config.plans.base import PlanConfig, ResolvedPlan
from layerwise.core.errors import LayerwiseError
from layerwise.training.plan import Stage, checked_stages

if TYPE_CHECKING:  # they import this module
    from layerwise.config.resolved import ResolvedConfig
    from layerwise.config.schema import Config


@dataclass
class OwnPlanConfig(PlanConfig):
    """The keys of conf/plan/own.yaml; all others are arguments of the function."""

    in_turn: ClassVar = True
    reconstructs: ClassVar = True

    name: str = "own"

    def check(self, config: Config) -> None:
        super().check(config)
        if config.function("plan") is None:
            raise LayerwiseError("plan=own: name a function with plan._target_, such as mypkg.plans.build.")

    def resolve(self, epochs: int, lr: float) -> ResolvedOwnPlan:
        return ResolvedOwnPlan(**self._resolved(epochs, lr))


@dataclass(kw_only=True)
class ResolvedOwnPlan(OwnPlanConfig, ResolvedPlan):
    """The stages of another package."""

    def stages(self, config: ResolvedConfig) -> list[Stage]:
        own = config.function("plan")
        assert own is not None
        return checked_stages(own(J=config.J, epochs=self.epochs, k=config.k), config.J, own.key)
