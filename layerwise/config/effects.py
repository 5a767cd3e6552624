"""When each key has an effect: a key that is set without one is refused or warned about, and does not name the folder.

A new key of the schema needs an entry, which a test demands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

from omegaconf import MISSING

from layerwise.config.groups.data import CacheKind
from layerwise.config.groups.outputs import WandbMode
from layerwise.config.groups.training import OptimizerKind, ScheduleName
from layerwise.config.heads import HEADS, WIDTHS, kind_of
from layerwise.config.kinds import KINDS, blank, values_of
from layerwise.config.plans import PLANS, PlanConfig
from layerwise.config.resolved import ResolvedConfig
from layerwise.config.schema import Config

Condition = Callable[[ResolvedConfig], bool]


@dataclass(frozen=True)
class Effect:
    """When a key has an effect: in words, behind "it needs", and as a condition."""

    needs: str
    holds: Condition


def _plan(fact: Callable[[type[PlanConfig]], bool]) -> Effect:
    names = [name for name, plan in PLANS.items() if fact(plan)]
    return Effect(" or ".join(f"plan={name}" for name in names), lambda config: fact(type(config.plan)))


def _schedule(name: ScheduleName) -> Effect:
    return Effect(f"optimizer.schedule={name.value}", lambda config: config.optimizer.schedule is name)


_BEHIND = Effect(
    f"{' or '.join(f'plan={name}' for name, plan in PLANS.items() if plan.in_turn)}, or plan.frozen_blocks",
    lambda c: c.plan.in_turn or c.plan.frozen_blocks > 0,
)


def _cached(*kinds: CacheKind) -> Effect:
    """Only a block behind a frozen one reads a cache."""
    words = " or ".join(f"cache={kind.value}" for kind in kinds)
    return Effect(f"{words}, and {_BEHIND.needs}", lambda c: _BEHIND.holds(c) and c.cache.kind in kinds)


def _head(config: ResolvedConfig) -> str | None:
    """The kind of the heads; None of a network that has one kind, and "own" of those of another package."""
    return "own" if config.function("model.head") else getattr(config.model, "head", None)


def _heads_with(key: str) -> Effect:
    names = [name for name, kind in HEADS.items() if key in kind.keys]
    return Effect(f"model.head={' or '.join(names)}", lambda config: _head(config) in names)


ALWAYS = Effect("nothing", lambda config: True)
_AT_ONCE = _plan(lambda plan: plan.several_heads)
_OF_HEADS = {key: _heads_with(key) for kind in HEADS.values() for key in kind.keys}
_SIMILAR = _OF_HEADS["objective.similarity"]
_WIDE = _OF_HEADS["model.head_width"]
_CONVOLVES = Effect(f"{_WIDE.needs}, and k=2 or more", lambda c: c.k > 1 and (_head(c) is None or _WIDE.holds(c)))
_WHITENS = Effect("model.whiten_input=true", lambda c: bool(getattr(c.model, "whiten_input", False)))
_NORMS = Effect("model.batch_norm=true", lambda c: bool(getattr(c.model, "batch_norm", False)))
_AUGMENTS = Effect("dataset.augment=true and a data set of images", lambda c: c.dataset.augments)
_CLASSES = Effect("dataset.task=classification", lambda c: not c.dataset.regression)
_CLASS_LOSS = Effect(
    "dataset.task=classification and no objective._target_",
    lambda c: _CLASSES.holds(c) and c.function("objective") is None,
)
_PRUNES = Effect("plan.prune_to", lambda c: c.plan.prune_to is not None)
_CACHED = _cached(CacheKind.memory, CacheKind.disk, CacheKind.auto)
_MOMENTUM = Effect(
    "optimizer=sgd or timm with momentum",
    lambda c: c.optimizer.kind in (OptimizerKind.sgd, OptimizerKind.timm) and c.optimizer.momentum > 0,
)
_WANDB = Effect("logger=wandb", lambda c: c.logger.wandb.mode is not WandbMode.disabled)
_CUT = Effect(
    "a plan other than joint, which leaves a network of timm whole",
    lambda c: not (c.plan.whole and c.model.kind == "timm"),
)

EFFECTS: dict[str, Effect] = {
    **_OF_HEADS,
    **dict.fromkeys(
        ("J", "batch_size", "accumulate", "seed", "precision", "device", "compile", "name", "output_dir"), ALWAYS
    ),
    **dict.fromkeys(("fresh", "summary", "progress", "report", "profile", "debug"), ALWAYS),
    "k": _CUT,
    "epochs": Effect(
        "plan.epochs=null, which is set (perhaps by the experiment file) and decides",
        lambda c: c.plan.epochs % c.epochs == 0,
    ),
    **dict.fromkeys(("model.kind", "model.name", "model.depth", "model.width", "model.widths"), ALWAYS),
    **dict.fromkeys(("model.downsample", "model.input_downsample", "model.whiten_input", "model.batch_norm"), ALWAYS),
    **dict.fromkeys(("model.bias", "model.activation", "model.initialisation", "model.dropout"), ALWAYS),
    **dict.fromkeys(("model.pretrained", "model.modules", "model.shortcut", "model.options"), ALWAYS),
    "model.head": _CUT,
    **dict.fromkeys(WIDTHS, _CONVOLVES),
    **dict.fromkeys(("model.whiten_patch", "model.whiten_shift"), _WHITENS),
    **dict.fromkeys(("model.norm_scale", "model.norm_momentum", "model.norm_epsilon"), _NORMS),
    "model.downsampling": Effect("a downsampled block", lambda c: bool(getattr(c.model, "downsample", None))),
    **dict.fromkeys(
        (
            "dataset.name",
            "dataset.root",
            "dataset.validation",
            "dataset.folds",
            "dataset.labelled",
        ),
        ALWAYS,
    ),
    **dict.fromkeys(("dataset.standardise", "dataset.limit", "dataset.limit_test", "dataset.augment"), ALWAYS),
    **dict.fromkeys(("dataset.size", "dataset.workers", "dataset.unreadable", "dataset.exif"), ALWAYS),
    "dataset.test": Effect(
        "dataset.test_path=null, since a table of its own is tested on",
        lambda c: getattr(c.dataset, "test_path", None) is None,
    ),
    **dict.fromkeys(("dataset.path", "dataset.task", "dataset.label", "dataset.test_path"), ALWAYS),
    **dict.fromkeys(("dataset.separator", "dataset.columns", "dataset.drop", "dataset.missing"), ALWAYS),
    "dataset.validation_split": Effect("dataset.validation above 0", lambda c: c.dataset.validation > 0),
    "dataset.fold": Effect("dataset.folds", lambda c: c.dataset.folds is not None),
    **dict.fromkeys(("dataset.cutout", "dataset.padding", "dataset.border"), _AUGMENTS),
    **dict.fromkeys(("dataset.randaugment", "dataset.erasing", "dataset.mixup", "dataset.cutmix"), _AUGMENTS),
    "dataset.randaugment_ops": Effect(
        "dataset.randaugment above 0", lambda c: getattr(c.dataset, "randaugment", 0) > 0
    ),
    "dataset.flip": Effect(
        f"{_AUGMENTS.needs} whose mirror images are of the same class",
        lambda c: _AUGMENTS.holds(c) and getattr(c.dataset, "mirrored", False),
    ),
    "dataset.fresh_views": Effect(
        f"{_AUGMENTS.needs}, and a plan of several stages or plan.finetune.epochs",
        lambda c: _AUGMENTS.holds(c) and (not c.plan.whole or c.plan.finetune.wanted),
    ),
    "dataset.class_weights": _CLASS_LOSS,
    **dict.fromkeys(("plan.name", "plan.epochs", "plan.finetune.epochs"), ALWAYS),
    "plan.blocks_per_stage": Effect("at least as many blocks (J)", lambda c: c.plan.blocks_per_stage <= c.J),
    "plan.patience": Effect(
        "at least as many blocks (J or plan.max_blocks)",
        lambda c: c.plan.patience is None or c.plan.patience <= c.J,
    ),
    **dict.fromkeys(("plan.head", "plan.max_blocks", "plan.search_fraction", "plan.classifier_epochs"), ALWAYS),
    **dict.fromkeys(("plan.warm_start", "plan.prune_to", "plan.reuse", "plan.finetune.autoencoder_epochs"), ALWAYS),
    **dict.fromkeys(("plan.prune_epochs", "plan.prune_rounds", "plan.last_head_width"), _PRUNES),
    "plan.frozen_blocks": Effect(
        "model.pretrained, and at least as many blocks (J)",
        lambda c: c.model.pretrained is not None and c.plan.frozen_blocks <= c.J,
    ),
    "plan.finetune.lr": Effect("plan.finetune.epochs", lambda c: c.plan.finetune.wanted),
    "cache.kind": _BEHIND,
    "cache.views": Effect(f"{_CACHED.needs}, and {_AUGMENTS.needs}", lambda c: _CACHED.holds(c) and _AUGMENTS.holds(c)),
    **dict.fromkeys(("cache.dtype", "cache.budget_gb"), _CACHED),
    **dict.fromkeys(("cache.dir", "cache.keep"), _cached(CacheKind.disk, CacheKind.auto)),
    **dict.fromkeys(("optimizer.kind", "optimizer.lr", "optimizer.weight_decay", "optimizer.schedule"), ALWAYS),
    **dict.fromkeys(("optimizer.clip_norm", "optimizer.average"), ALWAYS),
    "optimizer.shift_lr": Effect(
        "a network with batch norms (model.batch_norm=true), or heads with their own",
        lambda c: getattr(c.model, "batch_norm", True) or _head(c) not in ("cnn", "pooled"),
    ),
    "optimizer.name": Effect("optimizer=timm", lambda c: c.optimizer.kind is OptimizerKind.timm),
    "optimizer.momentum": Effect(
        "optimizer=sgd or timm", lambda c: c.optimizer.kind in (OptimizerKind.sgd, OptimizerKind.timm)
    ),
    "optimizer.epsilon": Effect(
        "optimizer=adam or adamw", lambda c: c.optimizer.kind in (OptimizerKind.adam, OptimizerKind.adamw)
    ),
    "optimizer.muon_lr": Effect(
        "optimizer=sgd, and convolutions with batch norms (model.batch_norm=true), since the norms of kernels stay",
        lambda c: (
            c.optimizer.kind is OptimizerKind.sgd and c.model.kind != "mlp" and getattr(c.model, "batch_norm", True)
        ),
    ),
    "optimizer.nesterov": Effect("optimizer=sgd", lambda c: c.optimizer.kind is OptimizerKind.sgd),
    **dict.fromkeys(("optimizer.decay", "optimizer.decay_at"), _schedule(ScheduleName.step)),
    "optimizer.decay_every": Effect(
        "optimizer.schedule=step and optimizer.decay_at=null",
        lambda c: c.optimizer.schedule is ScheduleName.step and c.optimizer.decay_at is None,
    ),
    **dict.fromkeys(("optimizer.warmup", "optimizer.start", "optimizer.final"), _schedule(ScheduleName.onecycle)),
    "optimizer.norm_decay": Effect("optimizer.weight_decay above 0", lambda c: c.optimizer.weight_decay > 0),
    "optimizer.restart_momentum": Effect(
        f"optimizer.schedule=step and {_MOMENTUM.needs}",
        lambda c: c.optimizer.schedule is ScheduleName.step and _MOMENTUM.holds(c),
    ),
    "checkpoint.keep": ALWAYS,
    **dict.fromkeys(("objective.loss", "objective.l1", "objective.l2"), ALWAYS),
    "objective.label_smoothing": _CLASS_LOSS,
    "objective.single_logit": _CLASSES,
    "objective.reconstruction": _plan(lambda plan: plan.reconstructs),
    "objective.head_weights": Effect(
        f"{_AT_ONCE.needs}, and no objective of your own or of InfoPro",
        lambda c: _AT_ONCE.holds(c) and c.function("objective") is None and not kind_of(c.model).reconstructs,
    ),
    "objective.transport": ALWAYS,
    "objective.similarity": Effect(_SIMILAR.needs, lambda c: _SIMILAR.holds(c) and c.function("objective") is None),
    "ensemble.on": Effect(
        f"{_CLASSES.needs}, and a plan other than joint, which has one head",
        lambda c: _CLASSES.holds(c) and not c.plan.whole,
    ),
    "evaluation.every": Effect("stages of as many epochs", lambda c: c.evaluation.every <= c.plan.epochs),
    **dict.fromkeys(("evaluation.train", "evaluation.mirror", "evaluation.gradients"), ALWAYS),
    **dict.fromkeys(("distributed.parallel", "distributed.sync_batchnorm", "distributed.timeout"), ALWAYS),
    "logger.wandb.mode": ALWAYS,
    **dict.fromkeys(("logger.wandb.project", "logger.wandb.entity", "logger.wandb.group"), _WANDB),
    **dict.fromkeys(("logger.wandb.job_type", "logger.wandb.tags", "logger.wandb.artifacts"), _WANDB),
    "logger.tensorboard.enabled": ALWAYS,
}
"""By dotted key. What a job of SLURM gets (`slurm`) is not of a run's configuration alone and is not here."""

REFUSED = {
    *("plan.prune_rounds", "plan.last_head_width", "plan.frozen_blocks"),
    *("dataset.randaugment", "dataset.randaugment_ops", "dataset.erasing", "dataset.mixup", "dataset.cutmix"),
    *("dataset.fold", "dataset.cutout", "plan.finetune.lr"),
    *("plan.blocks_per_stage", "plan.patience", "dataset.class_weights"),
    *("objective.label_smoothing", "objective.single_logit", "objective.head_weights"),
    *(_OF_HEADS.keys() - {"model.head_width", "objective.similarity"}),
    *(
        "dataset.padding",
        "dataset.border",
        "optimizer.muon_lr",
        "optimizer.warmup",
        "optimizer.start",
        "optimizer.final",
    ),
    *("model.whiten_patch", "model.whiten_shift", "model.norm_scale", "model.norm_momentum", "model.norm_epsilon"),
}
"""Keys that stop a run when they are set without effect; the others are warned about."""


def has_effect(key: str, config: ResolvedConfig) -> bool:
    """Whether a key of the schema changes anything in a run."""
    return key not in EFFECTS or EFFECTS[key].holds(config)


def without_effect(given: Config, resolved: ResolvedConfig) -> Iterator[tuple[str, str]]:
    """The keys that are set without effect, each with a message."""
    for key, default in defaults(given).items():
        value = value_of(given, key)
        if value != default != MISSING and not has_effect(key, resolved):
            shown = getattr(value, "value", value)
            yield key, f"{key}={shown} has no effect: it needs {EFFECTS[key].needs}."


def defaults(config: Config) -> dict[str, Any]:
    """The schema's defaults by dotted key, with the keys of a configuration's network, data set and plan."""
    return _defaults(tuple(kinds.of(config) for kinds in KINDS))


@cache
def _defaults(classes: tuple[type[Any], ...]) -> dict[str, Any]:
    return values_of(blank(classes))


def value_of(config: Any, key: str) -> Any:
    """The value at a dotted key."""
    return reduce(getattr, key.split("."), config)
