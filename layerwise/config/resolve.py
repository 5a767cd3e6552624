"""The configuration with nothing left at null: the paper's values, and what follows from the network."""

from __future__ import annotations

from layerwise.config.effects import REFUSED, without_effect
from layerwise.config.networks.base import given
from layerwise.config.paper import training_values
from layerwise.config.resolved import (
    ResolvedConfig,
    ResolvedEnsemble,
    ResolvedObjective,
    ResolvedOptimizer,
    narrowed,
)
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import EnsembleOn
from layerwise.training.plan import group_ends


def resolve(config: Config) -> ResolvedConfig:
    """The configuration with the paper's values in place of null. The argument is not changed.

    Raises:
        LayerwiseError: a depth that the network does not have, or options that exclude each other.
    """
    training = training_values(config.dataset.like_imagenet)
    J, model = config.model.resolve(config.choices)
    epochs = given(config.epochs, training.epochs)
    lr = given(config.optimizer.lr, training.lr)
    resolved = narrowed(
        ResolvedConfig,
        config,
        J=J,
        epochs=epochs,
        batch_size=given(config.batch_size, training.batch_size),
        model=model,
        plan=config.plan.resolve(_stages_to_match(config, J) * epochs, lr),
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
    resolved.plan.check_network(resolved)
    for key, message in without_effect(config, resolved):
        resolved_itself = key == "model.head_widths" and resolved.k == 1  # of model.widths, in a run's config.yaml
        if key in REFUSED and not resolved_itself:
            raise LayerwiseError(f"{message} Leave it out.")
    weights, heads = config.objective.head_weights, len(group_ends(resolved.J, resolved.plan.blocks_per_stage))
    if isinstance(weights, list) and len(weights) != heads:
        raise LayerwiseError(
            f"objective.head_weights={weights}: {len(weights)} weight(s) for {heads} heads. Give one for each."
        )
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
    if config.plan.in_turn:
        return 1
    try:
        return config.model.fixed_depth(joint=False) or J
    except LayerwiseError:  # a network that cannot be cut is one block
        return 1
