"""From a composed configuration to a `Config` and its file, and back.

Hydra composes the YAML files of `conf/`; `parse` turns the result into a `Config` and refuses what the schema does not
know. `resolve.resolve` then fills what is null.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from layerwise.config.checks import check_options
from layerwise.config.groups.training import ObjectiveConfig
from layerwise.config.keys import suggest_key, where_it_is
from layerwise.config.kinds import KINDS, Kinds, blank, values_of
from layerwise.config.outside import TARGET, Outside, put_back
from layerwise.config.ranges import check_ranges
from layerwise.config.schema import Config
from layerwise.config.shapes import check_shapes
from layerwise.core.errors import LayerwiseError, one_line, suggest
from layerwise.training.contracts import CONTRACTS

CHOSEN_BY = {"model": "kind", "plan": "name"}
"""By group, the key that is `own` beside a function of another package; a data set's name is its user's choice."""


def parse(composed: DictConfig, trust: bool = True) -> Config:
    """Checks keys and types, ranges and combinations.

    Args:
        trust: whether code of other packages that it names may be imported: that of a command, which its user has
            written, but not that of a run folder.

    Raises:
        LayerwiseError: an unknown key, a value of the wrong type, one outside its range, or keys that exclude each
            other.
    """
    try:
        composed = OmegaConf.create(_each_text(OmegaConf.to_container(composed, resolve=False), _at_home))
        outside = _take_outside(composed, trust)
        classes = tuple(_class(kinds, composed, kinds.group in outside) for kinds in KINDS)
        for kinds, kind in zip(KINDS, classes, strict=True):
            _drop_others(composed, kinds, kind)
        schema = _schema(classes)
        check_shapes(schema, composed)
        config = OmegaConf.to_object(OmegaConf.merge(schema, composed))
    except ConfigKeyError as error:
        full_key = str(error.full_key)
        raise LayerwiseError(f"unknown key '{full_key}'.{suggest_key(full_key)}") from error
    except MissingMandatoryValue as error:
        raise LayerwiseError(
            f"{error.full_key}: has no value. Set {error.full_key}=…, or choose another file of its group."
        ) from error
    except OmegaConfBaseException as error:
        raise LayerwiseError(f"{error.full_key}: {one_line(str(error).splitlines()[0])}.") from error
    assert isinstance(config, Config)
    config = replace(config, outside=outside)
    check_ranges(values_of(config))
    check_options(config)
    return config


@cache
def _schema(classes: tuple[type[Any], ...]) -> DictConfig:
    """All keys with their types and defaults; OmegaConf takes a quarter of the time of `parse` to make it."""
    schema: DictConfig = OmegaConf.structured(blank(classes))
    return schema


def _take_outside(rest: DictConfig, trust: bool) -> dict[str, Outside]:
    """Takes the functions of other packages and their arguments out of a configuration.

    Returns:
        The functions by their places.

    Raises:
        LayerwiseError: there is no such function, or it has other parameters.
    """
    if "outside" in rest:
        raise LayerwiseError(f"unknown key 'outside'.{suggest_key('outside')}")
    found: dict[str, Outside] = {}
    OmegaConf.set_struct(rest, False)
    for place in CONTRACTS:
        node = OmegaConf.select(rest, place)
        if not isinstance(node, DictConfig) or TARGET not in node:
            continue
        keys = _keys_beside(place)
        if place in CHOSEN_BY and (choice := node.get(CHOSEN_BY[place], "own")) != "own":
            raise LayerwiseError(f"{place}.{TARGET}: is of {place}=own, not of {place}={choice}. Add {place}=own.")
        arguments = {str(name): _value(node, str(name)) for name in node if name not in (TARGET, *keys)}
        target = _value(node, TARGET)
        if not isinstance(target, str):
            raise LayerwiseError(f"{place}.{TARGET}={target}: must be a dotted name, such as mypkg.module.function.")
        own = Outside(place, target, arguments, trust)
        found[place] = own.checked(keys) if trust else own
        for name in (TARGET, *arguments):
            del node[name]
        if not keys:
            group, _, name = place.rpartition(".")
            del OmegaConf.select(rest, group)[name]
        if place in CHOSEN_BY:
            node[CHOSEN_BY[place]] = "own"
    if "dataset" in found and rest.dataset.get("name", "own") == "own":
        rest.dataset.name = found["dataset"].target
    return dict(sorted(found.items()))  # groups first, so that what lies inside of them is written into them


def _keys_beside(place: str) -> list[str]:
    """The keys of the schema that may stand beside a `_target_`."""
    schema = {kinds.group: kinds.classes["own"] for kinds in KINDS} | {"objective": ObjectiveConfig}
    return [entry.name for entry in fields(schema[place])] if place in schema else []


def _value(node: DictConfig, name: str) -> Any:
    """A plain value of a group, with its interpolations resolved."""
    value = node[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _class(kinds: Kinds, composed: DictConfig, own: bool) -> type[Any]:
    """The class of a group's keys.

    Args:
        own: a function of another package is named there.

    Raises:
        LayerwiseError: there is no such choice, or the function has the name of one.
    """
    value = OmegaConf.select(composed, kinds.choice, throw_on_resolution_failure=False)
    if own:
        if value != "own" and str(value) in kinds.classes:
            raise LayerwiseError(f"{kinds.choice}={value}: is a {kinds.what} of layerwise. Give yours another name.")
        return kinds.classes["own"]
    if value is None:
        return type(getattr(Config(), kinds.group))
    if str(value) not in kinds.classes:
        raise LayerwiseError(
            f"{kinds.choice}={value}: there is no such {kinds.what}.{suggest(str(value), kinds.classes)}"
        )
    return kinds.classes[str(value)]


def _drop_others(composed: DictConfig, kinds: Kinds, kind: type[Any]) -> None:
    """Takes a group's keys of other classes out of a configuration; an experiment file may set them to their defaults.

    Raises:
        LayerwiseError: such a key has another value.
    """
    group = composed.get(kinds.group)
    if not isinstance(group, DictConfig):
        return
    OmegaConf.set_struct(composed, False)
    for name, default in kinds.others(kind).items():
        if (holder := _holder(group, name)) is None:
            continue
        value = holder.pop(name.rpartition(".")[2])
        if value not in (None, getattr(default, "value", default)):
            key = f"{kinds.group}.{name}"
            raise LayerwiseError(
                f"{key}={value}: {kinds.group}={group[kinds.key]} has no such option, which is of {where_it_is(key)}. "
                "Leave it out."
            )


def _holder(group: DictConfig, name: str) -> DictConfig | None:
    """The group, or the group inside of it, that has a key such as `finetune.epochs`; None if it is not there."""
    inside, _, last = name.rpartition(".")
    holder = group.get(inside) if inside else group
    return holder if isinstance(holder, DictConfig) and last in holder else None


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `from_yaml` reads; paths begin with ~ in place of the user's home folder."""
    tree = OmegaConf.to_container(OmegaConf.structured(replace(config, outside={})), enum_to_str=True)
    tree = _each_text(tree, lambda text: re.sub(f"^{re.escape(str(Path.home()))}(?=/)", "~", text))
    assert isinstance(tree, dict)
    return OmegaConf.to_yaml(OmegaConf.create(put_back(tree, config.outside)))  # type: ignore[arg-type]


def from_yaml(path: Path, trust: bool = False) -> Config:
    """Reads what `to_yaml` wrote; interpolations such as `${oc.env:HOME}` stay the text that they are.

    Args:
        trust: whether code of other packages that it names may be imported when it is needed.

    Raises:
        LayerwiseError: no file, or not of this schema.
    """
    try:
        config = deepcopy(_from_text(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, LayerwiseError) as error:
        raise LayerwiseError(
            f"{path}: cannot be read ({one_line(str(error))}). If {path.parent} is a run folder, put that file back, "
            "or start over with fresh=true."
        ) from error
    known = {place: replace(own, trusted=trust) for place, own in config.outside.items()}
    return replace(config, outside=known)


@lru_cache(maxsize=256)
def _from_text(text: str) -> Config:
    """What a config.yaml says; a report asks several times for each of many runs, and each takes some 50 ms."""
    tree = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    loaded = OmegaConf.create(_each_text(tree, _literal))
    if not isinstance(loaded, DictConfig):
        raise ValueError("it holds no keys and values")
    _update(loaded)
    return parse(loaded, trust=False)


def _at_home(text: str) -> str:
    """A path whose ~ is the user's home folder; what holds no such path stays."""
    return re.sub("^~(?=/)", lambda _: str(Path.home()), text)


def _literal(text: str) -> str:
    """A text whose `${` are escaped: a run folder from elsewhere must not read this machine's environment."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def _each_text(tree: Any, change: Callable[[str], str]) -> Any:
    """Plain values with each text changed."""
    if isinstance(tree, dict):
        return {key: _each_text(value, change) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_each_text(value, change) for value in tree]
    return change(tree) if isinstance(tree, str) else tree


def _update(loaded: DictConfig) -> None:
    """Gives a config.yaml of an earlier version the keys that say today what it meant."""
    loaded.get("logger", {}).pop("name", None)  # there when there was nothing to choose
    model = loaded.get("model", {})
    for kinds in KINDS:
        group = loaded.get(kinds.group, {})
        kind = kinds.classes["own"] if TARGET in group else kinds.classes.get(group.get(kinds.key))
        others = kinds.others(kind) if kind else {}
        holders = {name: holder for name in others if (holder := _holder(group, name)) is not None}
        if TARGET in group and 2 * len(holders) < len(others):
            continue  # they are arguments
        for name, holder in holders.items():
            if not (isinstance(inner := group.get(name), DictConfig) and TARGET in inner):  # a head of another package
                del holder[name.rpartition(".")[2]]  # every class had the keys of all
    if model.get("kind") == "simcnn" and loaded.get("k") == 1 and model.get("batch_norm") is False:
        model.setdefault("bias", True)  # every block had one
