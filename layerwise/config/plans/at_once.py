"""Plans of one stage: `plan=joint`, `plan=simultaneous` and `plan=deep_supervision`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerwise.config.plans.base import PlanConfig, ResolvedPlan
from layerwise.training.plan import Stage, deep_supervision, joint, simultaneous

if TYPE_CHECKING:  # they import this module
    from layerwise.config.resolved import ResolvedConfig


@dataclass
class JointConfig(PlanConfig):
    """The keys of conf/plan/joint.yaml."""

    title: ClassVar = "end to end"
    whole: ClassVar = True

    name: str = "joint"

    def resolve(self, epochs: int, lr: float) -> ResolvedJoint:
        return ResolvedJoint(**self._resolved(epochs, lr))


@dataclass(kw_only=True)
class ResolvedJoint(JointConfig, ResolvedPlan):
    """All blocks and the last head."""

    def stages(self, config: ResolvedConfig) -> list[Stage]:
        return joint(config.J, self.epochs)


@dataclass
class SimultaneousConfig(PlanConfig):
    """The keys of conf/plan/simultaneous.yaml."""

    several_heads: ClassVar = True
    local: ClassVar = True

    name: str = "simultaneous"
    blocks_per_stage: int = 1

    def resolve(self, epochs: int, lr: float) -> ResolvedSimultaneous:
        return ResolvedSimultaneous(**self._resolved(epochs, lr))


@dataclass(kw_only=True)
class ResolvedSimultaneous(SimultaneousConfig, ResolvedPlan):
    """All blocks, each group with its own head."""

    def stages(self, config: ResolvedConfig) -> list[Stage]:
        return simultaneous(config.J, self.epochs, blocks_per_stage=self.blocks_per_stage)


@dataclass
class DeepSupervisionConfig(PlanConfig):
    """The keys of conf/plan/deep_supervision.yaml."""

    several_heads: ClassVar = True

    name: str = "deep_supervision"
    blocks_per_stage: int = 1

    def resolve(self, epochs: int, lr: float) -> ResolvedDeepSupervision:
        return ResolvedDeepSupervision(**self._resolved(epochs, lr))


@dataclass(kw_only=True)
class ResolvedDeepSupervision(DeepSupervisionConfig, ResolvedPlan):
    """All blocks and all heads together."""

    def stages(self, config: ResolvedConfig) -> list[Stage]:
        return deep_supervision(config.J, self.epochs, blocks_per_stage=self.blocks_per_stage)
