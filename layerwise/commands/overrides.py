"""The arguments of `layerwise train` before Hydra reads them: refuses, by name, what Hydra would stumble over."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from layerwise.commands.conf_files import CONF, choices
from layerwise.config.outside import TARGET
from layerwise.core.errors import LayerwiseError, one_line, suggest
from layerwise.training.contracts import CONTRACTS

DEEPEST = 20
"""Maximum number of brackets inside each other."""

DASHED = re.compile(r"--[\w./@]+=")
"""How an override begins that is written like an option."""

NONE = re.compile(r"=None$")
"""Null as Python writes it."""

OPTIONS = "model.options"
"""A key whose value is a group of arguments with any names."""

MODES = ("run", "multirun", "cfg", "info", "shell_completion")
"""Hydra's options of which one can be given."""


def checked(words: Sequence[str]) -> list[str]:
    """Overrides that Hydra can read, without `experiment=null`, which is the default.

    Raises:
        LayerwiseError: names the argument and how to write it.
    """
    overrides = {word: _parsed(word) for word in words}
    return for_targets({word: override for word, override in overrides.items() if not _is_default(override)})


def for_targets(overrides: Mapping[str, Override]) -> list[str]:
    """Lets arguments of another package's functions and of timm's networks be given like keys: `model.head.width=3`.

    Hydra would ask for a plus sign, and a function at a group (`model._target_`) belongs to the group's choice `own`.
    """
    given = {override.key_or_group: override for override in overrides.values()}
    named = [place for place in CONTRACTS if f"{place}.{TARGET}" in given]
    groups = [f"{place}=own" for place in named if (CONF / place).is_dir() and place not in given]
    if "experiment" in given and _may_name_a_function(given["experiment"]):
        named = list(CONTRACTS)
    places = [*named, *(place for place in CONTRACTS if place in given and _may_name_a_function(given[place]))]
    words = []
    for word, override in overrides.items():
        key = override.key_or_group
        inside = key == OPTIONS or any(key.startswith(f"{place}.") for place in (*places, OPTIONS))
        words.append(f"++{word.lstrip('+')}" if inside and not override.is_delete() else word)
    return [*groups, *words]


def _may_name_a_function(override: Override) -> bool:
    """Whether the file that a group's choice stands for has a `_target_`; of a folder of the user's own it may have."""
    choice = CONF / override.key_or_group / f"{override.value()}.yaml" if not override.is_sweep_override() else None
    return choice is not None and (not choice.is_file() or f"\n{TARGET}:" in choice.read_text())


def for_hydra(words: Sequence[str]) -> list[str]:
    """The arguments of a command line: Hydra's options, in any place, and then the checked overrides.

    Overrides may be written as W&B's sweeps write them: `--key=value`, and `None` for null.

    Raises:
        LayerwiseError: an unknown option, two that exclude each other, or an argument that `checked` refuses.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parser.allow_abbrev = False  # `--experiment=…` is a key, and not short for --experimental-rerun
    options, unknown = parser.parse_known_intermixed_args(list(words))
    if refused := [word for word in unknown if not DASHED.match(word)]:
        raise LayerwiseError(_unknown_option(refused[0], parser))
    modes = [f"--{name}" for name in MODES if getattr(options, name)]
    if len(modes) > 1:
        raise LayerwiseError(f"{' and '.join(modes)}: use one of them.".replace("shell_", "shell-"))
    if options.resolve and not (options.cfg or options.help):
        raise LayerwiseError("--resolve: shows resolved values with --cfg job. Add it, or leave out --resolve.")
    if options.experimental_rerun and not Path(options.experimental_rerun).is_file():
        raise LayerwiseError(f"--experimental-rerun {options.experimental_rerun}: no such file.")
    if options.shell_completion:
        if not any(re.match(r"(install|uninstall|query)=", word) for word in options.overrides):
            raise LayerwiseError("--shell-completion: say what to do, such as --shell-completion install=bash.")
        return list(words)
    rest, overrides = list(words), list(options.overrides)
    for word in reversed([*overrides, *unknown]):
        del rest[len(rest) - 1 - rest[::-1].index(word)]
    keys = [word.removeprefix("--") for word in words if word in {*overrides, *unknown}]
    return [*rest, *checked([NONE.sub("=null", word) for word in keys])]


def _refuse(message: str) -> NoReturn:
    raise LayerwiseError(f"{one_line(message)}. `layerwise train --hydra-help` explains the options.")


def _unknown_option(word: str, parser: ArgumentParser) -> str:
    hint = suggest(word.split("=")[0], parser._option_string_actions)
    if "Did you mean" not in hint:
        hint = f" Keys are written with their values: {word.lstrip('-').split('=')[0]}=…."
    return f"{word}: unknown option.{hint}"


def _parsed(word: str) -> Override:
    """One override; LayerwiseError: it cannot be read."""
    if "\0" in word:
        raise LayerwiseError(f"{one_line(word)}: has a NUL byte. Remove it.")
    depth = deepest = 0
    for character in word:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise LayerwiseError(f"{one_line(word)}: has more than {DEEPEST} brackets inside each other.")
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise LayerwiseError(_unreadable(word, error)) from error
    _check_group(override)
    return override


def _unreadable(word: str, error: HydraException) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return f"cannot read the argument '{one_line(word)}'. Write KEY=VALUE, lists as [1,2]."
    reason = one_line(str(error).splitlines()[0])
    if value[:1] in ("[", "{") or "'" in value:
        return f"cannot read the argument '{one_line(word)}': {reason}. Write KEY=VALUE, lists as [1,2]."
    return (
        f"cannot read the argument '{one_line(word)}': quote a value with '=', spaces or letters beyond a to z twice: "
        f"'{one_line(key)}=\"{one_line(value)}\"'."
    )


def _check_group(override: Override) -> None:
    """Refuses a number or null as the choice of a group."""
    group = override.key_or_group
    if override.is_delete() or override.is_sweep_override() or not (CONF / group).is_dir():
        return
    value = override.value()
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return
    if not _is_default(override):
        shown = "null" if value is None else value
        raise LayerwiseError(
            f"{group}={shown}: a group needs the name of a choice.{suggest(str(shown), choices(group))}"
        )


def _is_default(override: Override) -> bool:
    return override.key_or_group == "experiment" and not override.is_sweep_override() and override.value() is None
