"""Options that exclude each other, whatever the network and the data."""

from __future__ import annotations

from layerwise.config.groups.training import Keep, OptimizerKind, Parallel
from layerwise.config.heads import HEADS, kind_of
from layerwise.config.schema import Config
from layerwise.core.choices import PrecisionName
from layerwise.core.errors import LayerwiseError
from layerwise.training.choices import LOSSES, losses_for


def check_options(config: Config) -> None:
    """Refuses combinations of options that have no meaning.

    Raises:
        LayerwiseError: names the keys, and what to do.
    """
    _check_names(config)
    _check_data(config)
    _check_mixing(config)
    _check_optimizer(config)
    _check_objective(config)
    _check_block_parallelism(config)
    config.model.check()
    config.plan.check(config)


def _check_names(config: Config) -> None:
    """Values that registries hold."""
    for key in ("model.head", "objective.loss", "objective.reconstruction"):
        group, _, name = key.partition(".")
        value, known = getattr(getattr(config, group), name, None), list(HEADS if name == "head" else LOSSES)
        if value is not None and value not in known:
            raise LayerwiseError(f"{key}: Invalid value '{value}', expected one of [{', '.join(known)}].")


def _check_data(config: Config) -> None:
    dataset = config.dataset
    if config.checkpoint.keep is Keep.best and dataset.validation == 0 and dataset.folds is None:
        raise LayerwiseError(
            "checkpoint.keep=best needs validation samples to choose the epoch by: dataset.validation=0.1."
        )
    if dataset.folds is not None and dataset.validation > 0:
        raise LayerwiseError(f"dataset.folds={dataset.folds} holds out a fold already. Leave out dataset.validation.")
    if dataset.folds is not None and dataset.fold > dataset.folds:
        raise LayerwiseError(f"dataset.fold={dataset.fold}: folds count from 1 to dataset.folds={dataset.folds}.")


def _check_mixing(config: Config) -> None:
    """Images that are mixed have two labels."""
    for name in ("mixup", "cutmix"):
        share = getattr(config.dataset, name, 0)
        if share and config.function("objective") is not None:
            raise LayerwiseError(
                f"dataset.{name}={share:g} cannot be combined with objective._target_: a loss of another package takes "
                "one label for each image. Leave one of them out."
            )
        if share and config.dataset.labelled < 1:
            raise LayerwiseError(
                f"dataset.{name}={share:g} cannot be combined with dataset.labelled below 1: an image may be mixed "
                "with one that has no label. Leave one of them out."
            )


def _check_optimizer(config: Config) -> None:
    optimizer = config.optimizer
    if optimizer.kind is OptimizerKind.timm:
        if optimizer.name is None:
            raise LayerwiseError("optimizer=timm: choose one with optimizer.name, such as optimizer.name=lamb.")
        from layerwise.training.timm_optim import check_timm_optimizer  # loads torch

        check_timm_optimizer(optimizer.name)
    if optimizer.nesterov and optimizer.momentum == 0:
        raise LayerwiseError("optimizer.nesterov=true needs optimizer.momentum above 0.")


def _check_objective(config: Config) -> None:
    objective = config.objective
    loss, decoded = LOSSES[objective.loss or "cross_entropy"], LOSSES[objective.reconstruction]
    if decoded.wanted == "labels":
        raise LayerwiseError(
            f"objective.reconstruction={objective.reconstruction} is for classes. Use {losses_for('unit')}."
        )
    if objective.single_logit and "single_logit" not in loss.keys:
        raise LayerwiseError(
            f"objective.single_logit=true has a binary cross-entropy. Leave out objective.loss={objective.loss}."
        )
    head, name = kind_of(config.model), getattr(config.model, "head", None)
    if objective.single_logit and not head.single_logit:
        raise LayerwiseError(
            f"objective.single_logit=true cannot be combined with model.head={name}. Use another head."
        )
    if config.dataset.regression and not head.regression:
        raise LayerwiseError(f"dataset.task=regression cannot be combined with model.head={name}, for classes.")
    if head.reconstructs and (config.plan.in_turn or config.plan.frozen_blocks > 0):
        raise LayerwiseError(
            f"model.head={name} reconstructs the images, which stages behind frozen blocks do not read. Use "
            "plan=simultaneous and plan.frozen_blocks=0."
        )
    if config.dataset.regression and objective.loss is not None and loss.wanted != "values":
        raise LayerwiseError(
            f"objective.loss={objective.loss} is for classes. With dataset.task=regression use {losses_for('values')}."
        )
    if objective.label_smoothing > 0 and "label_smoothing" not in loss.keys:
        raise LayerwiseError(
            f"objective.label_smoothing is for cross-entropies and has no meaning with objective.loss="
            f"{objective.loss}. Leave one of them out."
        )


def _check_block_parallelism(config: Config) -> None:
    """What processes that each train some of the blocks cannot do."""
    if config.distributed.parallel is not Parallel.blocks:
        return
    if not config.plan.local:
        raise _not_by_blocks("only plan=simultaneous trains all blocks at once. Use distributed.parallel=data.")
    if config.plan.finetune.wanted:
        raise _not_by_blocks(
            "fine-tuning passes gradients through all blocks. Leave out plan.finetune, or use parallel=data."
        )
    if kind_of(config.model).reconstructs:
        raise _not_by_blocks("only the first process has the images that the heads reconstruct. Use parallel=data.")
    if config.evaluation.gradients:
        raise _not_by_blocks("no process knows all blocks' gradients. Use evaluation.gradients=false.")
    if config.optimizer.clip_norm is not None:
        raise _not_by_blocks("no process knows the norm of all blocks' gradients. Use optimizer.clip_norm=null.")
    if config.accumulate > 1:
        raise _not_by_blocks("the processes pass whole batches on. Use accumulate=1.")
    if config.precision is PrecisionName.fp16:
        raise _not_by_blocks(
            "each process would scale its loss on its own. Use precision=bf16 or fp32, or parallel=data."
        )


def _not_by_blocks(why: str) -> LayerwiseError:
    return LayerwiseError(f"distributed.parallel=blocks: {why}")
