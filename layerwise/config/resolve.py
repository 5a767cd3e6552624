"""The configuration with nothing left at null: the paper's values, and what follows from the network."""

from __future__ import annotations

from dataclasses import replace

from layerwise.config.effects import REFUSED, in_turn, without_effect
from layerwise.config.groups.plan import FinetuneConfig, HeadStart, Plan
from layerwise.config.networks.base import given
from layerwise.config.paper import training_values
from layerwise.config.resolved import (
    ResolvedConfig,
    ResolvedEnsemble,
    ResolvedObjective,
    ResolvedOptimizer,
    ResolvedPlan,
    narrowed,
)
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import EnsembleOn

FINETUNE_DIVISOR = 10
"""Training's learning rate over fine-tuning's, unless plan.finetune.lr is given."""


def resolve(config: Config) -> ResolvedConfig:
    """The configuration with the paper's values in place of null. The argument is not changed.

    Raises:
        LayerwiseError: a depth that the network does not have, or options that exclude each other.
    """
    training = training_values(config.dataset.like_imagenet)
    J, model = config.model.resolve(config.choices)
    epochs = given(config.epochs, training.epochs)
    plan_epochs = given(config.plan.epochs, _stages_to_match(config, J) * epochs)
    lr = given(config.optimizer.lr, training.lr)
    resolved = narrowed(
        ResolvedConfig,
        config,
        J=J,
        epochs=epochs,
        batch_size=given(config.batch_size, training.batch_size),
        model=model,
        plan=narrowed(
            ResolvedPlan,
            config.plan,
            epochs=plan_epochs,
            classifier_epochs=given(config.plan.classifier_epochs, plan_epochs),
            finetune=_resolve_finetuning(config.plan.finetune, lr),
        ),
        optimizer=narrowed(
            ResolvedOptimizer,
            config.optimizer,
            name=given(config.optimizer.name, config.optimizer.kind.value),
            lr=lr,
            momentum=given(config.optimizer.momentum, training.momentum),
            weight_decay=given(config.optimizer.weight_decay, training.weight_decay),
            decay=given(config.optimizer.decay, training.decay),
            decay_every=given(config.optimizer.decay_every, training.decay_every),
        ),
        objective=narrowed(ResolvedObjective, config.objective, loss=_loss(config)),
        ensemble=ResolvedEnsemble(on=_averaged(config) or model.ensemble_on or training.ensemble_on),
    )
    check_pruning(resolved)
    for key, message in without_effect(config, resolved):
        if key in REFUSED:
            raise LayerwiseError(f"{message} Leave it out.")
    return resolved


def _loss(config: Config) -> str:
    """The loss; of the scores (0, z) of a single logit z the cross-entropy is the binary cross-entropy of z."""
    if config.objective.single_logit:
        return "cross_entropy"
    usual = "squared_error" if config.dataset.regression else "cross_entropy"
    return given(config.objective.loss, usual)


def _averaged(config: Config) -> EnsembleOn | None:
    """What the ensemble averages, where it is chosen or there are no classes."""
    return EnsembleOn.logits if config.dataset.regression else config.ensemble.on


def _stages_to_match(config: Config, J: int) -> int:
    """By how much `epochs` is multiplied, so that all plans see the data equally often."""
    if in_turn(config):
        return 1
    try:
        return config.model.fixed_depth(joint=False) or J
    except LayerwiseError:  # a network that cannot be cut is one block
        return 1


def _resolve_finetuning(finetune: FinetuneConfig, lr: float) -> FinetuneConfig:
    """With a learning rate if there is something to tune."""
    if not finetune.epochs and not finetune.autoencoder_epochs:
        return finetune
    return replace(finetune, lr=given(finetune.lr, lr / FINETUNE_DIVISOR))


def check_pruning(config: ResolvedConfig) -> None:
    """Refuses a compression that cannot be done.

    Raises:
        LayerwiseError: names `plan.prune_to` and what it cannot be combined with.
    """
    plan = config.plan
    if plan.prune_to is None:
        return
    key = f"plan.prune_to={plan.prune_to}"
    if plan.name is not Plan.greedy:
        raise LayerwiseError(
            f"{key}: only plan=greedy prunes. For an end-to-end network of the compressed one's shape use plan=joint "
            f"model.width={plan.prune_to} plan.prune_to=null."
        )
    if config.function("model.head") is not None:
        raise LayerwiseError(f"{key}: a head of another package does not say how it loses inputs. Use model.head=cnn.")
    if config.k == 1 and config.model.kind == "simcnn":
        raise LayerwiseError(
            f"{key} needs k=2 or more: with k=1 nothing but the linear head could adapt to the remaining filters. "
            "Use k=3 as the paper does, or plan.prune_to=null."
        )
    config.model.pruned_widths(plan.prune_to, config.J)
    if plan.last_head_width is not None and (
        getattr(config.model, "final_head_width", None) is not None or plan.patience is not None
    ):
        raise LayerwiseError(
            f"plan.last_head_width={plan.last_head_width} cannot be combined with "
            "model.final_head_width or plan.patience. Leave one of them out."
        )
    if plan.last_head_width is not None and config.model.kind != "simcnn":
        raise LayerwiseError(f"plan.last_head_width={plan.last_head_width} needs model=simcnn. Leave it out.")
    if plan.prune_rounds > (lost := (config.model.first_width or 0) - plan.prune_to):
        raise LayerwiseError(f"plan.prune_rounds={plan.prune_rounds}: block 1 loses only {lost} filters. Use less.")
    if plan.blocks_per_stage > 1 or plan.warm_start or plan.head is not HeadStart.fresh:
        raise LayerwiseError(
            f"{key} cannot be combined with plan.blocks_per_stage, plan.warm_start or plan.head={plan.head.value}. "
            "Leave one of them out."
        )
