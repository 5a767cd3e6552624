"""What the commands' arguments have in common: one parser, one form of errors, and the words of earlier versions."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from layerwise.core.errors import LayerwiseError, suggest


class Parser(argparse.ArgumentParser):
    """Parses the arguments of `layerwise NAME`; a bad argument is a `LayerwiseError`, as any other bad input."""

    def __init__(self, name: str, usage: str | None) -> None:
        """Args: name: of the command. usage: its description and examples, shown by --help."""
        super().__init__(
            prog=f"layerwise {name}",
            description=usage,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        unknown = [word for word in message.split() if word.startswith("--")] if "unrecognized" in message else []
        hint = suggest(unknown[0].split("=")[0], self._option_string_actions) if unknown else ""
        raise LayerwiseError(f"{message}.{hint or f' `{self.prog} --help` explains the arguments.'}")

    def add_trust(self) -> None:
        """Adds --trust, for commands that read run folders."""
        self.add_argument(
            "--trust", action="store_true", help="import code of other packages that the run's configuration names"
        )


def named(text: str) -> Path:
    """The `type=` of an argument that names a file or folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("the name of a file or folder is empty or has a NUL byte")
    return Path(text)


def at_least(minimum: int) -> Callable[[str], int]:
    """The `type=` of an argument that is a whole number, `minimum` or more."""

    def number(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text} is too small: use {minimum} or more")
        return value

    return number


def above(minimum: float) -> Callable[[str], float]:
    """The `type=` of an argument that is a finite number larger than `minimum`."""

    def number(text: str) -> float:
        value = float(text)
        if not minimum < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text}: use a number above {minimum:g}")
        return value

    return number


def modern(words: Sequence[str], positional: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """Arguments of earlier versions, `run=[A,B] epochs=3`, in today's form, `A B --epochs 3`.

    Args:
        words: in either form.
        positional: keys whose values are positional arguments today, in their order. Other plain words follow them.
        options: keys that are options today.

    Raises:
        LayerwiseError: an unknown key.
    """
    values: dict[str, list[str]] = {key: [] for key in positional}
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier() or Path(word).exists():  # a file may have = in its name
            rest.append(word)
        elif key not in (*positional, *options):
            raise LayerwiseError(f"{word}: unknown key '{key}'.{suggest(key, [*positional, *options])}")
        elif key in options:
            rest.append(f"--{key}={value}")
        else:
            is_list = value.startswith("[") and value.endswith("]") and not Path(value).exists()
            given = [part.strip() for part in value[1:-1].split(",")] if is_list else [value]
            if "" in given:
                raise LayerwiseError(f"{word}: an empty name. Give a file or folder.")
            values[key] += given
    return [*(value for key in positional for value in values[key]), *rest]
