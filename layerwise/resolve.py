"""The configuration with nothing left at null: the paper's values, and what follows from the network."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from layerwise.ensemble import EnsembleOn
from layerwise.errors import LayerwiseError
from layerwise.heads import HeadKind
from layerwise.models.vgg import FIRST_WIDTH
from layerwise.networks import fixed_depth, greedy_depth, label
from layerwise.paper import simcnn_values, training_values
from layerwise.schema import Config, EnsembleConfig, ModelConfig, ModelKind, Plan, filled

T = TypeVar("T")


def resolve(config: Config) -> Config:
    """The configuration with the paper's values in place of null. The argument is not changed.

    Raises:
        LayerwiseError: a depth that the network does not have, or options that exclude each other.
    """
    training = training_values(config.dataset.name)
    J, model = _resolve_network(config)
    epochs = _given(config.epochs, training.epochs)
    on_probabilities = model.kind is not ModelKind.simcnn  # as the paper's code for VGG
    resolved = replace(
        config,
        J=J,
        epochs=epochs,
        batch_size=_given(config.batch_size, training.batch_size),
        model=model,
        plan=replace(config.plan, epochs=_given(config.plan.epochs, _stages_to_match(config, J) * epochs)),
        optimizer=replace(
            config.optimizer,
            lr=_given(config.optimizer.lr, training.lr),
            momentum=_given(config.optimizer.momentum, training.momentum),
            weight_decay=_given(config.optimizer.weight_decay, training.weight_decay),
            decay=_given(config.optimizer.decay, training.decay),
            decay_every=_given(config.optimizer.decay_every, training.decay_every),
        ),
        ensemble=EnsembleConfig(
            on=_given(config.ensemble.on, EnsembleOn.probabilities if on_probabilities else training.ensemble_on)
        ),
    )
    check_pruning(resolved)
    return resolved


def _stages_to_match(config: Config, J: int) -> int:
    """By how much `epochs` is multiplied, so that all plans see the data equally often."""
    if config.plan.name is Plan.greedy:
        return 1
    return greedy_depth(config.model) if config.model.kind is ModelKind.timm else J


def _resolve_network(config: Config) -> tuple[int, ModelConfig]:
    """J and the keys of the network."""
    model = config.model
    fixed = fixed_depth(model, config.plan.name)
    if fixed is not None:
        if config.J not in (None, fixed):
            plan = config.plan.name.value
            raise LayerwiseError(
                f"J={config.J}: {label(model)} has {fixed} block(s) with plan={plan}. Leave J at null."
            )
        width = model.width if model.kind is ModelKind.timm else _given(model.width, FIRST_WIDTH)
        return fixed, replace(model, name=label(model), width=width)
    paper = simcnn_values(config.dataset.name, config.k)
    J = _given(config.J, paper.J)
    return J, replace(
        model,
        name=label(model),
        width=_given(model.width, paper.width),
        head_width=_given(model.head_width, paper.head_width) if model.head is HeadKind.cnn else None,
        downsample=_given(model.downsample, [j for j in paper.downsample if j <= J]),
        downsampling=_given(model.downsampling, paper.downsampling),
        input_downsample=_given(model.input_downsample, paper.input_downsample),
        batch_norm=_given(model.batch_norm, paper.batch_norm),
        pool=_given(model.pool, paper.pool) if model.head is HeadKind.cnn else None,
    )


def check_pruning(config: Config) -> None:
    """Refuses a compression that cannot be done.

    Raises:
        LayerwiseError: names `plan.prune_to` and what it does not go with.
    """
    prune_to, model = config.plan.prune_to, config.model
    if prune_to is None:
        return
    if config.plan.name is not Plan.greedy:
        raise LayerwiseError(
            f"plan.prune_to={prune_to}: only plan=greedy prunes. An end-to-end network of the compressed one's shape "
            f"is plan=joint model.width={prune_to} plan.prune_to=null."
        )
    if model.kind is not ModelKind.simcnn or model.head is not HeadKind.cnn:
        raise LayerwiseError("plan.prune_to: only model=simcnn with model.head=cnn can be pruned.")
    if config.k == 1:
        raise LayerwiseError(
            f"plan.prune_to={prune_to}: with k=1 the head is linear and has nothing to fine-tune behind fewer "
            "filters but itself; the paper prunes k=3. Use k=2 or more, or plan.prune_to=null."
        )
    if prune_to >= filled(model.width):
        raise LayerwiseError(
            f"plan.prune_to={prune_to}: must be less than model.width={model.width}, the filters that there are."
        )
    if config.plan.blocks_per_stage > 1 or config.plan.warm_start:
        raise LayerwiseError("plan.prune_to: goes neither with plan.blocks_per_stage nor with plan.warm_start.")


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
