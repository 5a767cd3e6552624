"""From a composed configuration to a `Config`: validation, files, and identity.

Hydra composes the YAML files of `conf/`; `parse` turns the result into a `Config` and refuses what
the schema does not know. `resolve.resolve` then fills what is null.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from layerwise.config.checks import check_options
from layerwise.config.keys import key_names, suggest_key
from layerwise.config.networks import label
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError


def parse(composed: DictConfig) -> Config:
    """Checks keys and types.

    Raises:
        LayerwiseError: an unknown key, a value of the wrong type, or one outside its range.
    """
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), composed))
    except ConfigKeyError as error:
        full_key = str(error.full_key)
        raise LayerwiseError(f"unknown key '{full_key}'.{suggest_key(full_key)}") from error
    except MissingMandatoryValue as error:
        raise LayerwiseError(f"{error.full_key}: this choice of its group leaves it open; choose another.") from error
    except OmegaConfBaseException as error:
        problem = str(error).splitlines()[0].rstrip(".")
        if "is not a ListConfig" in problem:
            problem = "must be a list, such as [3]"
        if not error.full_key:
            raise LayerwiseError(
                f"a group of keys was given a value of its own ({problem}). Give one to a key of it, such as "
                "plan.finetune.epochs=10."
            ) from error
        raise LayerwiseError(f"{error.full_key}: {problem}.") from error
    except ValueError as error:
        raise LayerwiseError(f"a group of keys is not what it should be: {str(error).splitlines()[0]}") from error
    assert isinstance(config, Config)
    validate(config)
    return config


def validate(config: Config) -> None:
    """Refuses values outside their range.

    Raises:
        LayerwiseError: names the key, its value and the range.
    """
    values = {name: _lookup(config, name) for name in key_names(config)}
    for names, rule, holds in RANGES:
        for name in names:
            if values[name] is not None and not holds(values[name]):
                raise LayerwiseError(f"{name}={values[name]}: {rule}.")
    check_options(config)


RANGES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        (
            *("k", "J", "epochs", "batch_size", "plan.epochs", "plan.blocks_per_stage", "plan.prune_to"),
            *("plan.prune_epochs", "model.width", "model.head_width", "model.final_head_width", "model.pool"),
            *("plan.classifier_epochs", "plan.max_blocks", "plan.patience"),
            *("dataset.limit", "dataset.limit_test", "dataset.size", "dataset.fold"),
            *("slurm.cpus", "slurm.memory_gb", "slurm.minutes", "slurm.parallel"),
        ),
        "must be 1 or more",
        lambda value: value >= 1,
    ),
    (
        (
            *("dataset.workers", "evaluation.every", "optimizer.weight_decay", "objective.l1", "objective.l2"),
            *("plan.finetune.epochs", "plan.finetune.autoencoder_epochs", "slurm.gpus", "dataset.cutout"),
        ),
        "must be 0 or more",
        lambda value: value >= 0,
    ),
    (
        (
            *("optimizer.lr", "optimizer.decay", "optimizer.decay_every", "optimizer.clip_norm", "cache.budget_gb"),
            *("plan.finetune.lr", "distributed.timeout"),
        ),
        "must be more than 0 and finite",
        lambda value: 0 < value < math.inf,
    ),
    (
        (
            "dataset.validation",
            "objective.label_smoothing",
            "optimizer.momentum",
            "optimizer.average",
            "optimizer.warmup",
        ),
        "must be at least 0 and less than 1",
        lambda value: 0 <= value < 1,
    ),
    (
        ("objective.similarity", "optimizer.final"),
        "must be at least 0 and at most 1",
        lambda value: 0 <= value <= 1,
    ),
    (
        ("dataset.test", "plan.search_fraction"),
        "must be more than 0 and less than 1",
        lambda value: 0 < value < 1,
    ),
    (
        ("dataset.labelled",),
        "must be more than 0 and at most 1",
        lambda value: 0 < value <= 1,
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
        ("cache.views",),
        "must be 'epochs' or a number of views, 1 or more",
        lambda value: value == "epochs" or (type(value) is int and value >= 1),
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
"""Keys, what holds of each unless it is null, and the test of it."""


def _lookup(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `train.py` would read."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(path: Path) -> Config:
    """Reads what `to_yaml` wrote; interpolations such as `${oc.env:HOME}` stay the text that they are.

    Raises:
        LayerwiseError: no file, or not of this schema.
    """
    try:
        loaded = OmegaConf.create(_literal(OmegaConf.to_container(OmegaConf.load(path), resolve=False)))
        assert isinstance(loaded, DictConfig)
        _update(loaded)
        return parse(loaded)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, AssertionError, LayerwiseError) as error:
        raise LayerwiseError(f"{path}: cannot be read ({error}). Is {path.parent} a run folder?") from error


def _literal(tree: Any) -> Any:
    """Plain values whose `${` are escaped: a run folder from elsewhere must not read this machine's environment."""
    if isinstance(tree, dict):
        return {key: _literal(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_literal(value) for value in tree]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", tree) if isinstance(tree, str) else tree


def _update(loaded: DictConfig) -> None:
    """Gives a config.yaml of an earlier version the keys that say today what it meant."""
    loaded.get("logger", {}).pop("name", None)  # there when there was nothing to choose
    model = loaded.get("model", {})
    if model.get("kind") == "simcnn" and loaded.get("k") == 1 and model.get("batch_norm") is False:
        model.setdefault("bias", True)  # every block had one


def identity(config: Any) -> dict[str, Any]:
    """The part of a resolved configuration that decides what is computed, as plain values."""
    kept: dict[str, Any] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if not entry.metadata.get("identity", True):
            continue
        if is_dataclass(value):
            kept |= {f"{entry.name}.{name}": inner for name, inner in identity(value).items()}
        else:
            kept[entry.name] = value.value if isinstance(value, Enum) else value
    for name in ("path", "test_path"):
        if kept.get(name) is not None:
            kept[name] = str(Path(kept[name]).resolve())
    if kept.get("name") in ("imagefolder", "imagenette"):
        kept["root"] = str(Path(config.root).resolve())  # the folder is the data set, or says which version of it
    return kept


def run_name(config: Config) -> str:
    """The run folder's name: `name=` if given, else made from the resolved configuration."""
    if config.name is not None:
        return config.name
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:8]
    parts: Sequence[object] = (label(config.model), config.dataset.name, config.plan.name.value)
    stem = "-".join(map(str, parts))
    return f"{stem}-k{config.k}-J{config.J}-seed{config.seed}-{digest}"


def as_plain(config: Config, but: Sequence[str] = ()) -> dict[str, Any]:
    """Nested dictionaries of JSON values, but for some groups."""
    chosen = {name: value for name, value in asdict(config).items() if name not in but}
    return json.loads(json.dumps(chosen, default=lambda value: value.value))  # type: ignore[no-any-return]
