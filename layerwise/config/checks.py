"""Options that exclude each other, whatever network and data they are for."""

from __future__ import annotations

from collections.abc import Iterator

from layerwise.config.networks import check_used
from layerwise.config.schema import (
    Config,
    HeadStart,
    ModelKind,
    OptimizerConfig,
    OptimizerKind,
    Parallel,
    Plan,
    ScheduleName,
)
from layerwise.core.choices import PrecisionName
from layerwise.core.errors import LayerwiseError
from layerwise.data.choices import Flip
from layerwise.models.choices import Activation
from layerwise.training.choices import LossName
from layerwise.training.timm_optim import check_timm_optimizer


def check_options(config: Config) -> None:
    """Refuses combinations of options that have no meaning.

    Raises:
        LayerwiseError: names the keys, and what to do.
    """
    problems = (
        *_of_growth(config),
        *_of_plan(config),
        *_of_data(config),
        *_of_optimisation(config),
        *_of_block_parallelism(config),
    )
    for applies, message in problems:
        if applies:
            raise LayerwiseError(message)
    check_used(config.model, config.k)
    if config.optimizer.kind is OptimizerKind.timm and config.optimizer.name is not None:
        check_timm_optimizer(config.optimizer.name)


Problem = tuple[bool, str]
"""Whether it is there, and what to say then."""


def _of_growth(config: Config) -> Iterator[Problem]:
    """Choosing the depth, and heads that are carried on."""
    plan = config.plan
    grows = plan.name in (Plan.greedy, Plan.autoencoder)
    held_out = config.dataset.validation > 0 or config.dataset.folds is not None
    for key, value in {"plan.patience": plan.patience, "plan.search_fraction": plan.search_fraction}.items():
        given = value is not None
        yield given and not grows, f"{key}={value}: only plan=greedy and plan=autoencoder grow block by block."
        yield (
            given and not held_out,
            f"{key}={value}: needs samples to choose the depth by: dataset.validation=0.1.",
        )
        yield (
            given and config.model.final_head_width is not None,
            f"{key}={value}: which head is the last one is not known before; leave out model.final_head_width.",
        )
    given = plan.max_blocks is not None
    yield (
        given and not grows,
        f"plan.max_blocks={plan.max_blocks}: only plan=greedy and plan=autoencoder grow. Use J={plan.max_blocks}.",
    )
    yield (
        given and config.J not in (None, plan.max_blocks),
        f"plan.max_blocks={plan.max_blocks}: J={config.J} says otherwise. Leave one of them out.",
    )
    yield (
        plan.head is HeadStart.carried and not grows,
        "plan.head=carried: only plan=greedy and plan=autoencoder have a head to carry on. Use plan.head=fresh.",
    )


def _of_plan(config: Config) -> Iterator[Problem]:
    plan, model = config.plan, config.model
    greedy = plan.name is Plan.greedy
    yield (
        plan.finetune.autoencoder_epochs > 0 and plan.name is not Plan.autoencoder,
        "plan.finetune.autoencoder_epochs: only plan=autoencoder has a decoder.",
    )
    yield (
        plan.finetune.lr is not None and not plan.finetune.epochs and not plan.finetune.autoencoder_epochs,
        f"plan.finetune.lr={plan.finetune.lr}: nothing is fine-tuned; say for how long with plan.finetune.epochs.",
    )
    yield (
        plan.warm_start and not greedy,
        "plan.warm_start=true: only plan=greedy starts a block behind a trained one.",
    )
    yield (
        plan.warm_start and (plan.blocks_per_stage > 1 or model.kind is not ModelKind.simcnn),
        "plan.warm_start=true: needs model=simcnn and plan.blocks_per_stage=1.",
    )
    yield (
        plan.warm_start and model.final_head_width is not None,
        "plan.warm_start=true: the last head of model.final_head_width cannot start as a copy.",
    )
    yield (
        plan.warm_start and any(len(set(widths or [0])) > 1 for widths in (model.widths, model.head_widths)),
        "plan.warm_start=true: a block can start as the identity, and its head as a copy, only where all are as wide "
        "as the one before. Use model.width.",
    )
    yield (
        plan.warm_start and model.activation not in (Activation.relu, Activation.none),
        f"plan.warm_start=true: no block with model.activation={model.activation.value} is the identity on what the "
        "one before gives. Use relu.",
    )
    yield plan.reuse is not None and not greedy, "plan.reuse: only plan=greedy has stages that two runs can share."
    yield (
        plan.reuse is not None and plan.search_fraction is not None,
        "plan.reuse: goes not with plan.search_fraction, whose stages no other run has. Leave one of them out.",
    )


def _of_data(config: Config) -> Iterator[Problem]:
    dataset = config.dataset
    yield (
        dataset.folds is not None and dataset.validation > 0,
        f"dataset.folds={dataset.folds}: a fold is held out already; leave out dataset.validation.",
    )
    yield (
        dataset.fold > (dataset.folds or 1),
        f"dataset.fold={dataset.fold}: there is no such fold; they count from 1 to dataset.folds={dataset.folds}.",
    )

    for key, value, unset in (("flip", dataset.flip.value, Flip.random.value), ("cutout", dataset.cutout, 0)):
        yield (
            value != unset and not dataset.augment,
            f"dataset.{key}={value}: nothing is augmented with dataset.augment=false. Leave one of them out.",
        )


def _of_optimisation(config: Config) -> Iterator[Problem]:
    objective, optimizer = config.objective, config.optimizer
    reconstructs = config.plan.name is Plan.autoencoder
    yield (
        optimizer.nesterov and optimizer.momentum == 0,
        "optimizer.nesterov=true: needs optimizer.momentum above 0.",
    )
    defaults = OptimizerConfig()
    for key in ("warmup", "final"):
        value = getattr(optimizer, key)
        yield (
            value != getattr(defaults, key) and optimizer.schedule is not ScheduleName.onecycle,
            f"optimizer.{key}={value}: is of optimizer.schedule=onecycle, not of {optimizer.schedule.value}. "
            "Leave it out.",
        )
    yield (
        optimizer.kind is OptimizerKind.timm and optimizer.name is None,
        "optimizer=timm: say which optimiser: optimizer.name=lamb.",
    )
    yield (
        config.model.kind is ModelKind.timm and not config.model.name,
        "model=timm: say which network: model.name=resnet18.",
    )
    yield (
        objective.reconstruction is LossName.cross_entropy,
        "objective.reconstruction=cross_entropy: is for classes. Use binary_cross_entropy.",
    )
    yield (
        reconstructs and objective.reconstruction is LossName.binary_cross_entropy and config.dataset.standardise,
        "objective.reconstruction=binary_cross_entropy: needs inputs in [0, 1]: dataset.standardise=false.",
    )
    yield (
        objective.label_smoothing > 0 and objective.loss in (LossName.squared_error, LossName.absolute_error),
        f"objective.label_smoothing: is for cross-entropies, not for objective.loss={objective.loss.value}.",
    )


def _of_block_parallelism(config: Config) -> Iterator[Problem]:
    """What processes that each train some of the blocks cannot do."""
    blocks, finetune = config.distributed.parallel is Parallel.blocks, config.plan.finetune
    why = "distributed.parallel=blocks:"
    yield (
        blocks and config.plan.name is not Plan.simultaneous,
        f"{why} only plan=simultaneous trains all blocks at once. Use distributed.parallel=data.",
    )
    yield (
        blocks and (finetune.epochs > 0 or finetune.autoencoder_epochs > 0),
        f"{why} fine-tuning passes gradients through all blocks. Leave out plan.finetune, or use parallel=data.",
    )
    yield (
        blocks and config.optimizer.clip_norm is not None,
        f"{why} no process knows the norm of all blocks' gradients. Use optimizer.clip_norm=null.",
    )
    yield (
        blocks and not config.optimizer.norm_decay,
        f"{why} the processes put the optimiser's state together by the order of its parameters, which "
        "optimizer.norm_decay=false changes. Leave it out, or use parallel=data.",
    )
    yield (
        blocks and config.precision is PrecisionName.fp16,
        f"{why} each process would scale its loss on its own. Use precision=bf16 or fp32, or parallel=data.",
    )
