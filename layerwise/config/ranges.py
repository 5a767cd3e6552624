"""The range of each number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from layerwise.core.errors import LayerwiseError
from layerwise.data.choices import SEPARATORS


def check_ranges(values: Mapping[str, Any]) -> None:
    """Refuses values outside their range.

    Args:
        values: by dotted key; null is in every range.

    Raises:
        LayerwiseError: names the key, its value and the range.
    """
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            _check_representable(name, one)
        if value == "":
            raise LayerwiseError(f"{name}='': must not be empty. Leave it out, or use null where the key allows it.")
    for names, rule, holds in RANGES:
        for name in names:
            value = values.get(name)
            if value is not None and not holds(value):
                raise LayerwiseError(f"{name}={value}: {rule}.")


def _check_representable(name: str, value: Any) -> None:
    """Refuses what no key can use, whatever its range."""
    largest = LARGEST_SEED if name == "seed" else LARGEST
    if isinstance(value, int) and abs(value) > largest:
        raise LayerwiseError(f"{name}={value:.3g}: must be at most {largest}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise LayerwiseError(f"{name}={value}: must be finite.")
    if isinstance(value, str) and not all(character.isprintable() for character in value):
        raise LayerwiseError(f"{name}={value!a}: has characters that cannot be printed. Remove them.")


LARGEST, LARGEST_SEED = 2**31 - 1, 2**63 - 1
"""The largest whole numbers that are accepted, also with a minus sign."""

DEEPEST = 1000
"""Maximum number of blocks, and of the layers of a greedy problem."""

MOST_WORKERS = 256
"""Maximum number of decoding processes of one process of the training."""

RANGES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        (
            *(
                "k",
                "J",
                "plan.max_blocks",
                "epochs",
                "batch_size",
                "accumulate",
                "plan.epochs",
                "plan.blocks_per_stage",
            ),
            *("plan.prune_epochs", "model.width", "model.head_width", "model.final_head_width", "model.pool"),
            *("model.head_depth", "model.tail"),
            *(
                "plan.prune_to",
                "plan.prune_rounds",
                "plan.last_head_width",
                "plan.classifier_epochs",
                "plan.patience",
                "model.whiten_patch",
            ),
            *("dataset.limit", "dataset.limit_test", "dataset.size", "dataset.fold", "dataset.randaugment_ops"),
            *("slurm.cpus", "slurm.memory_gb", "slurm.minutes", "slurm.parallel"),
        ),
        "must be 1 or more",
        lambda value: value >= 1,
    ),
    (
        ("k", "J", "plan.max_blocks"),
        f"must be at most {DEEPEST}",
        lambda value: value <= DEEPEST,
    ),
    (
        ("dataset.workers",),
        f"must be at most {MOST_WORKERS}",
        lambda value: value <= MOST_WORKERS,
    ),
    (
        (
            *("dataset.workers", "evaluation.every", "optimizer.weight_decay", "objective.l1", "objective.l2"),
            *("plan.finetune.epochs", "plan.finetune.autoencoder_epochs", "slurm.gpus"),
            *("dataset.cutout", "dataset.padding", "plan.frozen_blocks"),
            *("dataset.mixup", "dataset.cutmix"),
        ),
        "must be 0 or more",
        lambda value: value >= 0,
    ),
    (
        (
            *("optimizer.lr", "optimizer.decay", "optimizer.clip_norm", "cache.budget_gb"),
            *("plan.finetune.lr", "distributed.timeout", "model.head_scale", "model.norm_epsilon"),
            *("optimizer.shift_lr", "optimizer.muon_lr", "optimizer.epsilon", "objective.transport"),
        ),
        "must be more than 0 and finite",
        lambda value: 0 < value < math.inf,
    ),
    (
        (
            "dataset.validation",
            "model.dropout",
            "objective.label_smoothing",
            "optimizer.momentum",
            "optimizer.average",
            "optimizer.warmup",
        ),
        "must be at least 0 and less than 1",
        lambda value: 0 <= value < 1,
    ),
    (
        ("objective.similarity", "optimizer.final", "optimizer.start", "dataset.erasing"),
        "must be at least 0 and at most 1",
        lambda value: 0 <= value <= 1,
    ),
    (
        ("dataset.test", "plan.search_fraction", "optimizer.decay_every"),
        "must be more than 0 and less than 1",
        lambda value: 0 < value < 1,
    ),
    (
        ("dataset.labelled", "model.norm_momentum"),
        "must be more than 0 and at most 1",
        lambda value: 0 < value <= 1,
    ),
    (
        ("dataset.randaugment",),
        "must be at least 0 and at most 30",
        lambda value: 0 <= value <= 30,
    ),
    (
        ("dataset.folds",),
        "must be 2 or more",
        lambda value: value >= 2,
    ),
    (
        ("model.widths", "model.head_widths"),
        "must be a list of widths, 1 or more each",
        lambda value: len(value) > 0 and min(value) >= 1,
    ),
    (
        ("objective.decoder_weights", "objective.label_weights"),
        "must be two numbers, 0 or more: of the first and of the last module but one",
        lambda value: len(value) == 2 and min(value) >= 0,
    ),
    (
        ("objective.head_weights",),
        "must be a number, 0 or more, or a list of them, one for each head",
        lambda value: all(
            type(one) in (int, float) and one >= 0 for one in (value if isinstance(value, list) else [value])
        ),
    ),
    (
        ("model.modules",),
        "must be a number of modules, 1 or more, or a list of sizes, 1 or more each",
        lambda value: (
            min(value, default=0) >= 1
            if isinstance(value, list) and all(type(one) is int for one in value)
            else type(value) is int and value >= 1
        ),
    ),
    (
        ("optimizer.decay_at",),
        "must be a list of fractions of a stage, more than 0 and less than 1 each, in ascending order",
        lambda value: len(value) > 0 and all(0 < one < 1 for one in value) and value == sorted(set(value)),
    ),
    (
        ("cache.views",),
        "must be 'epochs' or a number of views, 1 or more",
        lambda value: value == "epochs" or (type(value) is int and value >= 1),
    ),
    (
        ("dataset.class_weights",),
        "must be 'balanced' or a list of numbers above 0, one for each class",
        lambda value: (
            value == "balanced"
            or (isinstance(value, list) and all(type(one) in (int, float) and one > 0 for one in value) and value != [])
        ),
    ),
    (
        ("dataset.separator",),
        "must be one character, or tab or space",
        lambda value: len(SEPARATORS.get(value, value)) == 1,
    ),
    (
        ("logger.wandb.tags",),
        "must be a list of tags of 1 to 64 characters",
        lambda value: all(1 <= len(one) <= 64 for one in value),
    ),
    (
        ("logger.wandb.project",),
        "must be a name of at most 128 characters, without / \\ # ? % :",
        lambda value: 0 < len(value) <= 128 and not set(value) & set("/\\#?%:"),
    ),
    (
        ("name",),
        "must be a folder name without '/'",
        lambda value: value not in ("", ".", "..") and "/" not in value,
    ),
)
"""Keys, the rule for each of them in words, and its test."""
