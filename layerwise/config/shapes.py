"""Groups, lists and single values of a composed configuration stand where the schema has the same."""

from __future__ import annotations

from typing import Any

from omegaconf import AnyNode, BooleanNode, Container, DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from layerwise.core.errors import LayerwiseError, one_line

SWITCHES = ("true", "false", "1", "0", "on", "off", "yes", "no", "none")
"""Values of a switch, and null; what else OmegaConf takes for true is a mistake."""


def check_shapes(schema: DictConfig, composed: DictConfig, prefix: str = "") -> None:
    """Refuses what OmegaConf would convert silently or refuse without a name.

    Args:
        schema, composed: groups of the same name. Keys that only one of them has are not looked at.
        prefix: the group's dotted name and a dot; empty for the whole configuration.

    Raises:
        LayerwiseError: a group, a list, a switch or a single value where the schema has another of these.
    """
    for name in [str(name) for name in composed if name in schema]:
        expected, found = schema._get_node(name), composed._get_node(name)
        assert isinstance(expected, Node)
        assert isinstance(found, Node)
        plain: Any = OmegaConf.to_container(found, resolve=False) if isinstance(found, Container) else found._value()
        if problem := _problem(expected, found, plain):
            shown = "null" if plain is None else one_line(str(plain))
            raise LayerwiseError(f"{prefix}{name}={shown}: {problem}.")
        if isinstance(expected, DictConfig) and isinstance(found, DictConfig):
            check_shapes(expected, found, f"{prefix}{name}.")


def _problem(expected: Node, found: Node, plain: Any) -> str | None:
    """What is wrong with a value, if anything is.

    Args:
        expected, found: nodes of the schema and of the configuration.
        plain: content of `found`.
    """
    if found._is_missing():
        return None if expected._is_missing() else "stands for a missing value. Give one"
    if found._is_interpolation():
        try:
            found._dereference_node()
        except OmegaConfBaseException as error:  # a list that is merged says it without the key
            return one_line(str(error).splitlines()[0])
        return None
    if isinstance(expected, DictConfig):
        groups = isinstance(found, DictConfig) and plain is not None
        example = next(iter(map(str, expected)), "{KEY: VALUE}")
        return None if groups else f"is a group of keys. Set one of them, such as {example}"
    if isinstance(expected, ListConfig):
        lists = plain is None or (isinstance(plain, list) and not any(isinstance(one, dict | list) for one in plain))
        return None if lists else "must be a list of single values, such as [3]"
    if isinstance(found, DictConfig) or (isinstance(found, ListConfig) and not isinstance(expected, AnyNode)):
        return "must be a single value"
    if isinstance(expected, BooleanNode) and str(plain).lower() not in SWITCHES:
        return "must be true or false"
    return None
