"""The command that a configuration comes from."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from layerwise.config.keys import key_names
from layerwise.config.parse import identity
from layerwise.config.resolve import resolve
from layerwise.config.schema import (
    CacheConfig,
    Config,
    DatasetConfig,
    ModelConfig,
    ModelKind,
    OptimizerConfig,
    OptimizerKind,
    PlanConfig,
)
from layerwise.core.errors import LayerwiseError

GROUPS = {
    "dataset": "dataset.name",
    "model": "model.kind",
    "plan": "plan.name",
    "cache": "cache.kind",
    "optimizer": "optimizer.kind",
}
"""Groups, and the key that tells which of their files was chosen."""


def command_of(config: Config) -> str:
    """A command of `train.py` that gives a configuration again: groups, and the keys that differ from their values.

    Args:
        config: resolved.
    """
    usual = {"model": "simcnn", "plan": "greedy", "cache": "auto", "optimizer": "sgd"}
    chosen = {group: identity(config)[key] for group, key in GROUPS.items()}
    words = {name: value for name, value in chosen.items() if value != usual.get(name)} | _changed(config)
    return shlex.join(["python", "train.py", *(f"{key}={_written(value)}" for key, value in words.items())])


def _changed(config: Config) -> dict[str, Any]:
    """Keys to set, found one after another: each also settles those that follow from it, as `epochs` does."""
    model, optimizer = config.model, config.optimizer
    draft = Config(
        model=ModelConfig(kind=model.kind, name=model.name if model.kind is ModelKind.timm else None),
        dataset=DatasetConfig(name=config.dataset.name),
        plan=PlanConfig(name=config.plan.name),
        cache=CacheConfig(kind=config.cache.kind),
        optimizer=OptimizerConfig(kind=optimizer.kind),
    )
    wanted, changed = identity(config), {}
    certain = {"model.name"} if model.kind is ModelKind.timm else set()
    if optimizer.kind is not OptimizerKind.sgd:  # the files of the others have a weight decay of their own
        certain.add("optimizer.weight_decay")
    for key in (key for key in key_names(config) if key in wanted.keys() - set(GROUPS.values())):
        if key in certain or _resolved(draft).get(key) != wanted[key]:
            draft = _with(draft, key.split("."), _value(config, key))
            changed[key] = wanted[key]
    return changed


def _resolved(draft: Config) -> Mapping[str, Any]:
    """Plain values of a draft, also of one that is not consistent yet."""
    try:
        return identity(resolve(draft))
    except LayerwiseError:
        return identity(draft)


def _with(config: Any, path: list[str], value: Any) -> Any:
    """A configuration with one key changed."""
    name, *rest = path
    return replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})


def _value(config: Any, key: str) -> Any:
    """What stands at a dotted key."""
    return reduce(getattr, key.split("."), config)


def _written(value: Any) -> str:
    """A value as Hydra reads it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return _quoted(value) if isinstance(value, str) and not PLAIN.fullmatch(value) else str(value)


PLAIN = re.compile(r"(?!(true|false|null|nan|inf)\Z)[a-z_/][\w./:+-]*", re.ASCII | re.IGNORECASE)
"""Text that Hydra reads as itself without quotes."""


def _quoted(text: str) -> str:
    """Text in Hydra's quotes, in which a backslash is special only before a quote."""
    return '"' + re.sub(r'(\\+)(?="|\Z)', r"\1\1", text).replace('"', '\\"') + '"'
