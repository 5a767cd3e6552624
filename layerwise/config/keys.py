"""Names of all keys, and the nearest one to a mistyped key. Imports no torch, so that a typo is answered at once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from layerwise.config.kinds import KINDS, values_of
from layerwise.config.schema import Config
from layerwise.core.errors import suggest


def suggest_key(full_key: str) -> str:
    """A near miss among all keys and groups, such as `model.width` for `model.widht`."""
    config = Config()
    if others := where_it_is(full_key):
        return f" It is a key of {others}."
    known = [*key_names(config), *kinds_keys(), *(entry.name for entry in fields(config)), "experiment"]
    if full_key in known:
        return f" Another choice of {full_key.split('.')[0]}=… has it; --help explains the groups."
    hint = suggest(full_key, known)
    return hint if "Did you mean" in hint else " `layerwise train --help` explains the keys."


def kinds_keys() -> list[str]:
    """Dotted names of the keys of all networks, and of all else that `KINDS` has."""
    return [f"{kinds.group}.{name}" for kinds in KINDS for name in kinds.all_keys]


def where_it_is(full_key: str) -> str:
    """The choices that have a key, such as `model=mlp or vgg`; empty if no group depends on a choice that has it."""
    group, _, name = full_key.partition(".")
    having = [value for kinds in KINDS if kinds.group == group for value in kinds.having(name)]
    return f"{group}={' or '.join(filter(None, (', '.join(having[:-1]), having[-1])))}" if having else ""


def key_names(config: Any) -> list[str]:
    """Dotted names of all keys."""
    return list(values_of(config))
