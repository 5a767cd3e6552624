"""Groups whose keys depend on one of them: `model.kind` chooses the dataclass of the keys of `model`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from layerwise.config.datasets import DATASETS
from layerwise.config.networks import NETWORKS
from layerwise.config.plans import PLANS
from layerwise.config.schema import Config


@dataclass(frozen=True)
class Kinds:
    """A group with a dataclass of keys for each value of one of them.

    Attributes:
        group: its name, such as `model`.
        key: the one that chooses, such as `kind`.
        what: what is chosen, in words.
        classes: by value; `own` is that of a function of another package at the group.
    """

    group: str
    key: str
    what: str
    classes: Mapping[str, type[Any]]

    @property
    def choice(self) -> str:
        """The dotted name of the key that chooses."""
        return f"{self.group}.{self.key}"

    @cached_property
    def all_keys(self) -> dict[str, Any]:
        """The keys of all classes with their defaults, by the names that they have in the group."""
        return {name: value for kind in self.classes.values() for name, value in values_of(kind()).items()}

    def others(self, kind: type[Any]) -> dict[str, Any]:
        """Those of `all_keys` that a class does not have."""
        own = values_of(kind())
        return {name: value for name, value in self.all_keys.items() if name not in own}

    def having(self, name: str) -> list[str]:
        """The values whose classes have a key."""
        return [value for value, kind in self.classes.items() if name in values_of(kind())]

    def of(self, config: Config) -> type[Any]:
        """The class of a configuration's keys, before they are resolved."""
        return self.classes["own" if self.group in config.outside else getattr(getattr(config, self.group), self.key)]


KINDS = (
    Kinds("model", "kind", "network", NETWORKS),
    Kinds("dataset", "name", "data set", DATASETS),
    Kinds("plan", "name", "plan", PLANS),
)


def blank(classes: tuple[type[Any], ...]) -> Config:
    """The schema's defaults, with the classes of the groups of `KINDS`."""
    return Config(**{kinds.group: kind() for kinds, kind in zip(KINDS, classes, strict=True)})


def differs(key: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs differ in a key: of those that lack it, only with runs of the same network, data set or plan.

    Args:
        configs: values by dotted key.
    """
    choice = next((kinds.choice for kinds in KINDS if key.startswith(f"{kinds.group}.")), "")
    if all(key in config for config in configs):
        choice = ""
    values: dict[Any, set[str]] = {}
    for config in configs:
        values.setdefault(config.get(choice), set()).add(json.dumps(config.get(key)))
    return any(len(found) > 1 for found in values.values())


def values_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """All keys of a configuration or of a group of it with their values, by dotted name."""
    values: dict[str, Any] = {}
    for entry in (entry for entry in fields(config) if entry.metadata.get("is_key", True)):
        name, value = prefix + entry.name, getattr(config, entry.name)
        values |= values_of(value, f"{name}.") if is_dataclass(value) else {name: value}
    return values
