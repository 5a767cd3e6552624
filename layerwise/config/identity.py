"""What of a configuration decides the results, and the name of the run folder that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from layerwise.config.effects import defaults, has_effect
from layerwise.config.keys import key_names
from layerwise.config.kinds import KINDS
from layerwise.config.networks.base import TIMM
from layerwise.config.outside import as_keys, put_back
from layerwise.config.plans.greedy import GreedyConfig
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError

DIGITS = 10
"""Hexadecimal digits at the end of a folder's name; the names of earlier versions end with 8."""


def identity(config: Config) -> dict[str, Any]:
    """Returns the keys that decide what is computed, as plain values by dotted key.

    Of a resolved configuration those without effect are left out.
    """
    kept = _plain(config)
    if isinstance(config, ResolvedConfig):
        kept = {key: value for key, value in kept.items() if has_effect(key, config)}
    return kept | as_keys(config.outside)


def _plain(config: Any) -> dict[str, Any]:
    """The keys of a configuration or of a group of it that are not marked as saying only where it computes."""
    kept: dict[str, Any] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if not entry.metadata.get("identity", True):
            continue
        if is_dataclass(value):
            kept |= {f"{entry.name}.{name}": inner for name, inner in _plain(value).items()}
        else:
            kept[entry.name] = value.value if isinstance(value, Enum) else value
    for name in ("path", "test_path"):
        if kept.get(name) is not None:
            kept[name] = str(Path(kept[name]).resolve())
    if kept.get("pretrained") not in (None, TIMM):
        kept["pretrained"] = str(Path(kept["pretrained"]).resolve())
    if getattr(config, "root_is_data", False):
        kept["root"] = str(Path(config.root).resolve())
    return kept


def all_but_the_seed(config: Config) -> str:
    """Returns a text that is the same for runs that differ in the seed alone."""
    return json.dumps({key: value for key, value in identity(config).items() if key != "seed"}, sort_keys=True)


def differences(there: Config, here: Config) -> Iterator[tuple[str, Any, Any]]:
    """The keys in which two resolved configurations compute something else, with both values."""
    held, wanted = identity(there), identity(here)
    for key in wanted | held:
        if held.get(key) != wanted.get(key):
            yield key, held.get(key), wanted.get(key)


def chosen(config: ResolvedConfig) -> dict[str, Any]:
    """Returns the part of `identity` that the rest follows from.

    A value is left out if the configuration resolves to the same without it. So a new key with a default changes no
    identity, and a value that is spelled out has the identity of the default that it equals.
    """
    wanted = identity(config)
    draft: Config = config
    chosen_by = [kinds.choice for kinds in KINDS]
    left_out = {"plan.name"} if config.plan.name == GreedyConfig.name else set()
    for key in (key for key in key_names(config) if key not in chosen_by):
        trial = _with(draft, key.split("."), defaults(config)[key])
        try:
            same = identity(resolve(trial)) == wanted
        except LayerwiseError:
            same = False
        if same:
            draft = trial
            left_out.add(key)
    return {key: value for key, value in wanted.items() if key not in left_out}


def run_stem(config: ResolvedConfig) -> str:
    """The readable part of a run folder's name."""
    parts = (config.model.label, config.dataset.name, config.plan.name)
    return f"{'-'.join(parts)}-k{config.k}-J{config.J}-seed{config.seed}"


def run_name(config: ResolvedConfig) -> str:
    """The run folder's name: `name=` if given, else made from the configuration."""
    if config.name is not None:
        return config.name
    digest = hashlib.sha256(json.dumps(chosen(config), sort_keys=True).encode()).hexdigest()[:DIGITS]
    return f"{run_stem(config)}-{digest}"


def as_plain(config: Config, but: Sequence[str] = ()) -> dict[str, Any]:
    """Returns nested dictionaries of JSON values, without some groups."""
    kept = {name: value for name, value in put_back(asdict(config), config.outside).items() if name not in but}
    return json.loads(json.dumps(kept, default=lambda value: value.value))  # type: ignore[no-any-return]


def _with(config: Any, path: list[str], value: Any) -> Any:
    """A configuration with one key changed."""
    name, *rest = path
    return replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})
