"""Groups whose keys depend on one of them: `model.kind` chooses the dataclass of the keys of `model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from layerwise.config.datasets import DATASETS
from layerwise.config.networks import NETWORKS
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

    @property
    def all_keys(self) -> dict[str, Field[Any]]:
        """The keys of all classes, by name."""
        return {entry.name: entry for kind in self.classes.values() for entry in fields(kind)}

    def having(self, name: str) -> list[str]:
        """The values whose classes have a key."""
        return [value for value, kind in self.classes.items() if any(entry.name == name for entry in fields(kind))]

    def of(self, config: Config) -> type[Any]:
        """The class of a configuration's keys, before they are resolved."""
        value = getattr(getattr(config, self.group), self.key)
        return self.classes["own" if self.group in config.outside else getattr(value, "value", value)]


KINDS = (
    Kinds("model", "kind", "network", NETWORKS),
    Kinds("dataset", "name", "data set", DATASETS),
)


def blank(classes: tuple[type[Any], ...]) -> Config:
    """The schema's defaults, with the classes of the groups of `KINDS`."""
    return Config(**{kinds.group: kind() for kinds, kind in zip(KINDS, classes, strict=True)})
