"""From a composed configuration to a `Config` and its file, and back.

Hydra composes the YAML files of `conf/`; `parse` turns the result into a `Config` and refuses what the schema does not
know. `resolve.resolve` then fills what is null.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import MISSING, Field, fields, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from layerwise.config.checks import check_options
from layerwise.config.effects import value_of
from layerwise.config.groups.data import DatasetConfig
from layerwise.config.groups.plan import PlanConfig
from layerwise.config.groups.training import ObjectiveConfig
from layerwise.config.keys import key_names, network_keys, suggest_key
from layerwise.config.networks import NETWORKS, NetworkConfig
from layerwise.config.outside import TARGET, Outside, put_back
from layerwise.config.ranges import check_ranges
from layerwise.config.schema import Config
from layerwise.config.shapes import check_shapes
from layerwise.core.errors import LayerwiseError, one_line, suggest
from layerwise.training.contracts import CONTRACTS


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
        composed, outside = _outside(composed, trust)
        network = _network(composed)
        composed = _without_others(composed, network)
        schema = _schema(network)
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
    check_ranges({name: value_of(config, name) for name in key_names(config)})
    check_options(config)
    return config


@cache
def _schema(network: type[NetworkConfig]) -> DictConfig:
    """All keys with their types and defaults; OmegaConf takes a quarter of the time of `parse` to make it."""
    schema: DictConfig = OmegaConf.structured(Config(model=network()))  # type: ignore[call-arg]
    return schema


def _outside(composed: DictConfig, trust: bool) -> tuple[DictConfig, dict[str, Outside]]:
    """Takes the functions of other packages and their arguments out of a configuration.

    Returns:
        The rest, and the functions by their places.

    Raises:
        LayerwiseError: there is no such function, or it has other parameters.
    """
    if "outside" in composed:
        raise LayerwiseError(f"unknown key 'outside'.{suggest_key('outside')}")
    rest, found = composed.copy(), {}
    OmegaConf.set_struct(rest, False)
    for place in CONTRACTS:
        node = OmegaConf.select(rest, place)
        if not isinstance(node, DictConfig) or TARGET not in node:
            continue
        keys = _keys_beside(place)
        if place == "model" and node.get("kind", "own") != "own":
            raise LayerwiseError(f"model.{TARGET}: is of model=own, not of model={node.kind}. Add model=own.")
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
    names = {"model": ("model.kind", "own"), "plan": ("plan.name", "own")}
    if "dataset" in found and rest.dataset.get("name", "own") == "own":
        names["dataset"] = ("dataset.name", found["dataset"].target)
    for key, value in (names[place] for place in found.keys() & names.keys()):
        OmegaConf.update(rest, key, value)
    return rest, dict(sorted(found.items()))  # groups first, so that what lies inside of them is written into them


def _keys_beside(place: str) -> list[str]:
    """The keys of the schema that may stand beside a `_target_`."""
    schema: dict[str, Any] = {"model": NETWORKS["own"], "objective": ObjectiveConfig}
    schema |= {"dataset": DatasetConfig, "plan": PlanConfig}
    return [entry.name for entry in fields(schema[place])] if place in schema else []


def _value(node: DictConfig, name: str) -> Any:
    """A plain value of a group, with its interpolations resolved."""
    value = node[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _network(composed: DictConfig) -> type[NetworkConfig]:
    """The class of the chosen network's keys."""
    kind = OmegaConf.select(composed, "model.kind", default="simcnn", throw_on_resolution_failure=False)
    if kind not in NETWORKS:
        raise LayerwiseError(f"model.kind={kind}: there is no such network.{suggest(str(kind), NETWORKS)}")
    return NETWORKS[kind]


def _without_others(composed: DictConfig, network: type[NetworkConfig]) -> DictConfig:
    """The configuration without keys that other networks have, which an experiment file may set to their defaults.

    Raises:
        LayerwiseError: such a key has another value.
    """
    model = composed.get("model")
    if not isinstance(model, DictConfig):
        return composed
    own = {entry.name for entry in fields(network)}
    others = {entry.name: entry for other in NETWORKS.values() for entry in fields(other) if entry.name not in own}
    kept = composed.copy()
    OmegaConf.set_struct(kept, False)
    for name in [str(name) for name in model if name in others]:
        if (value := model[name]) not in (None, _default(others[name])):
            raise LayerwiseError(f"model.{name}={value}: model={kept.model.kind} has no such option. Leave it out.")
        kept.model.pop(name)
    return kept


def _default(entry: Field[Any]) -> Any:
    value = None if entry.default is MISSING else entry.default
    return getattr(value, "value", value)


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
    if TARGET in model:
        return  # its keys are arguments
    network = NETWORKS.get(model.get("kind"), NetworkConfig)
    own_head = {"head"} if isinstance(model.get("head"), DictConfig) else set()
    for name in (
        {key.removeprefix("model.") for key in network_keys()} - {entry.name for entry in fields(network)} - own_head
    ):
        model.pop(name, None)  # every network had the keys of all
    if model.get("kind") == "simcnn" and loaded.get("k") == 1 and model.get("batch_norm") is False:
        model.setdefault("bias", True)  # every block had one
