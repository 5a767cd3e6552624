"""`plan=greedy`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layerwise.config.groups import WHERE
from layerwise.config.plans.base import GrowingConfig, HeadStart, ResolvedGrowing
from layerwise.core.errors import LayerwiseError
from layerwise.training.plan import Stage, compressed, greedy

if TYPE_CHECKING:  # they import this module
    from layerwise.config.resolved import ResolvedConfig
    from layerwise.config.schema import Config


@dataclass
class GreedyConfig(GrowingConfig):
    """The keys of conf/plan/greedy.yaml."""

    name: str = "greedy"
    blocks_per_stage: int = 1
    warm_start: bool = False
    prune_to: int | None = None
    prune_epochs: int = 20
    prune_rounds: int = 1
    last_head_width: int | None = None
    reuse: str | None = field(default=None, metadata=WHERE)

    def check(self, config: Config) -> None:
        super().check(config)
        if self.reuse is not None and self.search_fraction is not None:
            raise LayerwiseError(
                "plan.reuse cannot be combined with plan.search_fraction: a searched run shares no stages with other "
                "runs. Leave one of them out."
            )
        if (
            self.warm_start and self.blocks_per_stage > 1
        ):  # whether blocks can be the identity is seen when they are built
            raise LayerwiseError("plan.warm_start=true needs plan.blocks_per_stage=1: one block behind a trained one.")
        if self.warm_start and config.model.pretrained is not None:
            raise LayerwiseError(
                "plan.warm_start=true cannot be combined with model.pretrained: a block begins with one of them."
            )

    def resolve(self, epochs: int, lr: float) -> ResolvedGreedy:
        return ResolvedGreedy(**self._resolved(epochs, lr))


@dataclass(kw_only=True)
class ResolvedGreedy(GreedyConfig, ResolvedGrowing):
    """A stage for each group of blocks, perhaps with pruning behind it."""

    def stages(self, config: ResolvedConfig) -> list[Stage]:
        J, widths, size = config.J, self.pruned_widths(config), self.blocks_per_stage
        if widths is not None:
            values = {"prune_epochs": self.prune_epochs, "rounds": self.prune_rounds}
            return compressed(J, self.epochs, prune_to=widths, last_head_width=self.last_head_width, **values)
        stages = greedy(J, self.epochs, blocks_per_stage=size, carried=self.carries, warm_start=self.warm_start)
        return self.freeze_heads(stages)

    def pruned_widths(self, config: ResolvedConfig) -> list[int] | None:
        return None if self.prune_to is None else config.model.pruned_widths(self.prune_to, config.J)

    def check_network(self, config: ResolvedConfig) -> None:
        if self.prune_to is None:
            return
        key, last, model = f"plan.prune_to={self.prune_to}", self.last_head_width, config.model
        if config.function("model.head") is not None:
            raise LayerwiseError(
                f"{key}: a head of another package does not say how it loses inputs. Use model.head=cnn."
            )
        if config.k == 1 and model.kind == "simcnn":
            raise LayerwiseError(
                f"{key} needs k=2 or more: with k=1 nothing but the linear head could adapt to the remaining filters. "
                "Use k=3 as the paper does, or plan.prune_to=null."
            )
        self.pruned_widths(config)
        if last is not None and (getattr(model, "final_head_width", None) is not None or self.patience is not None):
            raise LayerwiseError(
                f"plan.last_head_width={last} cannot be combined with model.final_head_width or plan.patience. Leave "
                "one of them out."
            )
        if last is not None and model.kind != "simcnn":
            raise LayerwiseError(f"plan.last_head_width={last} needs model=simcnn. Leave it out.")
        if self.prune_rounds > (lost := (model.first_width or 0) - self.prune_to):
            raise LayerwiseError(f"plan.prune_rounds={self.prune_rounds}: block 1 loses only {lost} filters. Use less.")
        if self.blocks_per_stage > 1 or self.warm_start or self.head is not HeadStart.fresh:
            raise LayerwiseError(
                f"{key} cannot be combined with plan.blocks_per_stage, plan.warm_start or "
                f"plan.head={self.head.value}. Leave one of them out."
            )
