"""The configuration with nothing left at null: the paper's values, and what follows from the network."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from layerwise.config.networks import fixed_depth, greedy_depth, label
from layerwise.config.paper import simcnn_values, training_values
from layerwise.config.resolved import ResolvedConfig, ResolvedEnsemble, ResolvedOptimizer, ResolvedPlan, narrowed
from layerwise.config.schema import (
    Config,
    FinetuneConfig,
    HeadStart,
    ModelConfig,
    ModelKind,
    Plan,
    filled,
)
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import EnsembleOn, HeadKind
from layerwise.models.vgg import FIRST_WIDTH

T = TypeVar("T")

FINETUNE_DIVISOR = 10
"""Fine-tuning's learning rate is so many times smaller than training's, unless it is given."""

MLP_WIDTH, MLP_BLOCKS = 256, 3
"""A multi-layer perceptron's hidden layers, unless they are given."""


def resolve(config: Config) -> ResolvedConfig:
    """The configuration with the paper's values in place of null. The argument is not changed.

    Raises:
        LayerwiseError: a depth that the network does not have, or options that exclude each other.
    """
    training = training_values(config.dataset.name)
    J, model = _resolve_network(config)
    epochs = _given(config.epochs, training.epochs)
    plan_epochs = _given(config.plan.epochs, _stages_to_match(config, J) * epochs)
    lr = _given(config.optimizer.lr, training.lr)
    on_probabilities = model.kind not in (ModelKind.simcnn, ModelKind.mlp)  # as the paper's code for VGG
    resolved = narrowed(
        ResolvedConfig,
        config,
        J=J,
        epochs=epochs,
        batch_size=_given(config.batch_size, training.batch_size),
        model=model,
        plan=narrowed(
            ResolvedPlan,
            config.plan,
            epochs=plan_epochs,
            classifier_epochs=_given(config.plan.classifier_epochs, plan_epochs),
            finetune=_resolve_finetuning(config.plan.finetune, lr),
        ),
        optimizer=narrowed(
            ResolvedOptimizer,
            config.optimizer,
            name=_given(config.optimizer.name, config.optimizer.kind.value),
            lr=lr,
            momentum=_given(config.optimizer.momentum, training.momentum),
            weight_decay=_given(config.optimizer.weight_decay, training.weight_decay),
            decay=_given(config.optimizer.decay, training.decay),
            decay_every=_given(config.optimizer.decay_every, training.decay_every),
        ),
        ensemble=ResolvedEnsemble(
            on=_given(config.ensemble.on, EnsembleOn.probabilities if on_probabilities else training.ensemble_on)
        ),
    )
    check_pruning(resolved)
    return resolved


def _stages_to_match(config: Config, J: int) -> int:
    """By how much `epochs` is multiplied, so that all plans see the data equally often."""
    if config.plan.name in (Plan.greedy, Plan.autoencoder):
        return 1
    return greedy_depth(config.model) if config.model.kind is ModelKind.timm else J


def _resolve_network(config: Config) -> tuple[int, ModelConfig]:
    """J and the keys of the network."""
    model = config.model
    wanted = config.J if config.plan.max_blocks is None else config.plan.max_blocks
    fixed = fixed_depth(model, config.plan.name)
    for one, several in (("width", model.widths), ("head_width", model.head_widths)):
        if several is not None and (given := getattr(model, one)) is not None:
            raise LayerwiseError(f"model.{one}={given}: model.{one}s={several} says otherwise. Leave one out.")
    if fixed is not None and wanted not in (None, fixed):
        plan, key = config.plan.name.value, "J" if config.plan.max_blocks is None else "plan.max_blocks"
        if model.widths is not None:
            raise LayerwiseError(
                f"{key}={wanted}: model.widths={model.widths} are of {fixed} block(s). Leave {key} out."
            )
        raise LayerwiseError(f"{key}={wanted}: {label(model)} has {fixed} block(s) with plan={plan}. Use {key}=null.")
    if model.kind is ModelKind.mlp:
        return _resolve_mlp(model, wanted)
    if fixed is not None and model.kind is not ModelKind.simcnn:
        width = model.width if model.kind is ModelKind.timm else _given(model.width, FIRST_WIDTH)
        return fixed, replace(model, name=label(model), width=width)
    paper = simcnn_values(config.dataset.name, config.k)
    J = _given(fixed, _given(wanted, paper.J))
    head_width, head_widths = model.head_width, model.head_widths
    if head_widths is not None and len(head_widths) != J:
        raise LayerwiseError(
            f"model.head_widths={head_widths}: there are {len(head_widths)} for J={J} blocks. Give one for each block."
        )
    if model.head is HeadKind.cnn and head_width is None and head_widths is None:
        if model.widths is None:
            head_width = paper.head_width
        else:  # as wide beside their blocks as the paper's
            head_widths = [max(1, M * paper.head_width // paper.width) for M in model.widths]
    return J, replace(
        model,
        name=label(model),
        width=_given(model.width, paper.width) if model.widths is None else None,
        head_width=head_width,
        head_widths=head_widths,
        downsample=_given(model.downsample, [j for j in paper.downsample if j <= J]),
        downsampling=_given(model.downsampling, paper.downsampling),
        input_downsample=_given(model.input_downsample, paper.input_downsample),
        batch_norm=_given(model.batch_norm, paper.batch_norm),
        pool=_given(model.pool, paper.pool) if model.head is HeadKind.cnn else None,
    )


def _resolve_mlp(model: ModelConfig, J: int | None) -> tuple[int, ModelConfig]:
    """Widths of all hidden layers from `model.widths`, or from J and `model.width`."""
    widths = _given(model.widths, [_given(model.width, MLP_WIDTH)] * _given(J, MLP_BLOCKS))
    batch_norm = _given(model.batch_norm, False)
    return len(widths), replace(model, name=label(model), width=None, widths=widths, batch_norm=batch_norm)


def _resolve_finetuning(finetune: FinetuneConfig, lr: float) -> FinetuneConfig:
    """With a learning rate where there is something to tune."""
    if not finetune.epochs and not finetune.autoencoder_epochs:
        return finetune
    return replace(finetune, lr=_given(finetune.lr, lr / FINETUNE_DIVISOR))


def check_pruning(config: ResolvedConfig) -> None:
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
    if model.widths is not None:
        raise LayerwiseError(f"plan.prune_to={prune_to}: goes with model.width and not with model.widths.")
    if prune_to >= filled(model.width):
        raise LayerwiseError(
            f"plan.prune_to={prune_to}: must be less than model.width={model.width}, the filters that there are."
        )
    if config.plan.blocks_per_stage > 1 or config.plan.warm_start or config.plan.head is HeadStart.carried:
        raise LayerwiseError(
            "plan.prune_to: goes neither with plan.blocks_per_stage nor with plan.warm_start or plan.head=carried."
        )


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
