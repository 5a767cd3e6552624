"""The plans that `plan` can be, by its value."""

from layerwise.config.plans.at_once import DeepSupervisionConfig, JointConfig, SimultaneousConfig
from layerwise.config.plans.autoencoder import AutoencoderConfig
from layerwise.config.plans.base import PlanConfig, ResolvedPlan
from layerwise.config.plans.greedy import GreedyConfig
from layerwise.config.plans.own import OwnPlanConfig

__all__ = ["PLANS", "PlanConfig", "ResolvedPlan"]

PLANS: dict[str, type[PlanConfig]] = {
    "greedy": GreedyConfig,
    "joint": JointConfig,
    "simultaneous": SimultaneousConfig,
    "deep_supervision": DeepSupervisionConfig,
    "autoencoder": AutoencoderConfig,
    "own": OwnPlanConfig,
}
