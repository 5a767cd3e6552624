"""Code of other packages that a configuration names: `model.head._target_=mypkg.heads.build`, with its arguments.

The command line imports it and checks the arguments by the signature. A configuration that is read from a run folder
imports nothing, unless its user trusts the folder.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from layerwise.core.errors import LayerwiseError, blamed, suggest
from layerwise.training.contracts import CONTRACTS

TARGET = "_target_"
"""Hydra's key for the dotted name of a function or class."""

SAFE = "layerwise.data.adapters."
"""Begins the names of functions that only read data, which a run folder may name without being trusted."""

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Outside:
    """A function of another package and its arguments.

    Attributes:
        place: where the configuration names it, a key of `CONTRACTS`.
        target: its dotted name.
        arguments: values by parameter, as the user gave them.
        trusted: whether it may be imported.
    """

    place: str
    target: str
    arguments: dict[str, Any] = field(default_factory=dict)
    trusted: bool = False

    @property
    def key(self) -> str:
        return f"{self.place}.{TARGET}={self.target}"

    def __call__(self, **offered: Any) -> Any:
        """Calls the function with its arguments and, of what the contract offers, what it has parameters for.

        Raises:
            LayerwiseError: the folder that names it is not trusted, there is no such function, or it raises an error.
        """
        names, takes_all = self._parameters()
        with blamed(self.key):
            return self._function()(**{n: v for n, v in offered.items() if n in names or takes_all}, **self.arguments)

    def checked(self, keys: Sequence[str]) -> Outside:
        """Returns it without arguments that equal the function's defaults, so that these name no run folder.

        Args:
            keys: of the same group of the configuration, for the suggestion.

        Raises:
            LayerwiseError: no such function, or an argument that it does not have or that is missing.
        """
        parameters, takes_all = self._parameters()
        own = {name: parameter for name, parameter in parameters.items() if name not in offered(self.place)}
        for name, value in self.arguments.items():
            if name not in own and not (takes_all and name not in offered(self.place)):
                near = suggest(f"{self.place}.{name}", [f"{self.place}.{known}" for known in (*own, *keys)])
                raise LayerwiseError(f"{self.place}.{name}={value}: {self.target} has no such argument.{near}")
        for name, parameter in own.items():
            if parameter.default is not parameter.empty or name in self.arguments:
                continue
            if name in keys:
                raise LayerwiseError(f"{self.key}: its parameter '{name}' is a key of every {self.place}. Rename it.")
            lesson = " It is called once, to give the loss, and not with scores." if self.place == "objective" else ""
            raise LayerwiseError(f"{self.key}: needs {self.place}.{name}=…, which has no default.{lesson}")
        kept = {n: v for n, v in self.arguments.items() if n not in own or own[n].default != v}
        return replace(self, arguments=kept)

    def default(self, name: str) -> Any:
        """Returns the default of a parameter; None if it has none."""
        parameters, _ = self._parameters()
        found = parameters[name].default if name in parameters else inspect.Parameter.empty
        return None if found is inspect.Parameter.empty else found

    def record(self) -> dict[str, Any]:
        """Returns what tells this code from other code: an entry of `outside` in results.json."""
        parameters, _ = self._parameters()
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        chosen = {
            n: v for n, v in defaults.items() if n not in offered(self.place) and v is not inspect.Parameter.empty
        }
        module = inspect.getmodule(self._function()) or self._module()[0]
        top = importlib.import_module(module.__name__.partition(".")[0])
        return {
            "target": self.target,
            "arguments": {name: _plain(value) for name, value in {**chosen, **self.arguments}.items()},
            "module": module.__name__,
            "version": _version(top),
            "sha256": _digest(module, top),
        }

    def _function(self) -> Callable[..., Any]:
        if not (self.trusted or self.target.startswith(SAFE)):
            raise LayerwiseError(
                f"{self.key}: this run needs code outside layerwise, which is imported only on request. If you trust "
                "the run folder, use layerwise.load(folder, trust=True), or --trust on the command line."
            )
        module, names = self._module()
        found: Any = module
        for name in names:
            if not hasattr(found, name):
                public = [known for known in dir(found) if not known.startswith("_")]
                raise LayerwiseError(f"{self.key}: {module.__name__} has no '{name}'.{suggest(name, public)}")
            found = getattr(found, name)
        if not names or not callable(found):
            raise LayerwiseError(f"{self.key}: is no function or class. Name one, such as {self.target}.build.")
        return found  # type: ignore[no-any-return]

    def _module(self) -> tuple[ModuleType, list[str]]:
        """The innermost module of the dotted name, and the names behind it."""
        parts = self.target.split(".")
        if not all(part.isidentifier() for part in parts):
            raise LayerwiseError(f"{self.key}: write a dotted name, such as mypkg.module.function.")
        for n in range(len(parts), 0, -1):
            name = ".".join(parts[:n])
            try:
                return importlib.import_module(name), parts[n:]
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    raise  # a module that this one imports
        raise LayerwiseError(
            f"{self.key}: there is no package '{parts[0]}'. Install it, or put its folder on PYTHONPATH."
        )

    def _parameters(self) -> tuple[dict[str, inspect.Parameter], bool]:
        """The parameters that can be given by name, and whether it takes any name."""
        try:
            found = inspect.signature(self._function()).parameters.values()
        except ValueError as error:  # of some functions written in C
            raise LayerwiseError(f"{self.key}: has no signature. Wrap it in a function of Python.") from error
        return {p.name: p for p in found if p.kind in _NAMED}, any(p.kind is p.VAR_KEYWORD for p in found)


def offered(place: str) -> list[str]:
    """The parameters that the contract of a place offers."""
    parameters = inspect.signature(CONTRACTS[place].__call__).parameters
    return [name for name in parameters if name not in ("self", "arguments")]


def as_keys(outside: Mapping[str, Outside]) -> dict[str, Any]:
    """The targets and their arguments by dotted key."""
    return {
        f"{own.place}.{name}": value
        for own in outside.values()
        for name, value in {TARGET: own.target, **own.arguments}.items()
    }


def put_back(tree: dict[str, Any], outside: Mapping[str, Outside]) -> dict[str, Any]:
    """Writes targets and arguments into a nested configuration, where a user would write them; returns it."""
    for own in outside.values():
        *groups, name = own.place.split(".")
        group = tree
        for part in groups:
            group = group[part]
        others = group[name] if isinstance(group.get(name), dict) else {}
        group[name] = {TARGET: own.target, **others, **own.arguments}
    tree.pop("outside", None)
    return tree


def _plain(value: Any) -> Any:
    """A JSON value."""
    return value if isinstance(value, str | int | float | bool | list | dict | None) else repr(value)


def _version(top: ModuleType) -> str | None:
    """The version of a package, if it says one."""
    try:
        return version(top.__name__)
    except PackageNotFoundError:
        found = getattr(top, "__version__", None)
        return None if found is None else str(found)


def _digest(module: ModuleType, top: ModuleType) -> str | None:
    """SHA-256 of the source: all files of its package; of an installed one, and of layerwise, the module's file."""
    if module.__file__ is None or not Path(module.__file__).is_file():
        return None
    paths = [Path(module.__file__)]
    alone = {"site-packages", "dist-packages"} & set(paths[0].parts) or top.__name__ == __name__.partition(".")[0]
    if not alone and hasattr(top, "__path__"):
        paths = sorted(path for folder in top.__path__ for path in Path(folder).rglob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
