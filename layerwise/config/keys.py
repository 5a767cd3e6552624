"""Names of all keys, and the nearest one to a mistyped key. Imports no torch, so that a typo is answered at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from layerwise.config.networks import NETWORKS
from layerwise.config.schema import Config
from layerwise.core.errors import suggest


def suggest_key(full_key: str) -> str:
    """A near miss among all keys and groups, such as `model.width` for `model.widht`."""
    config = Config()
    known = [*key_names(config), *network_keys(), *(entry.name for entry in fields(config)), "experiment"]
    if full_key in known:
        return f" Another choice of {full_key.split('.')[0]}=… has it; --help explains the groups."
    hint = suggest(full_key, known)
    return hint if "Did you mean" in hint else " `layerwise train --help` explains the keys."


def network_keys() -> Iterator[str]:
    """Dotted names of the keys of all networks."""
    return (f"model.{entry.name}" for network in NETWORKS.values() for entry in fields(network))


def key_names(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of all keys."""
    names = []
    for entry in (entry for entry in fields(config) if entry.metadata.get("is_key", True)):
        value = getattr(config, entry.name)
        names += key_names(value, f"{prefix}{entry.name}.") if is_dataclass(value) else [prefix + entry.name]
    return names
