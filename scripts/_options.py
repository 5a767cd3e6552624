"""Options of the scripts, as KEY=VALUE words that a dataclass describes."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from layerwise.core.errors import LayerwiseError, suggest

T = TypeVar("T")


def read_options(schema: type[T], usage: str) -> T:
    """The options that the command line gives; `--help` prints `usage` and ends the script.

    Args:
        schema: dataclass with a field per option; its defaults are those of the options.
        usage: what the script does and which options it has.

    Raises:
        LayerwiseError: an unknown option, a value of the wrong type, or a missing one.
    """
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(usage.strip())
        sys.exit(0)
    try:
        options: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_cli()))
    except ConfigKeyError as error:
        known = [entry.name for entry in fields(schema)]  # type: ignore[arg-type]
        raise LayerwiseError(f"unknown option '{error.full_key}'.{suggest(str(error.full_key), known)}") from error
    except MissingMandatoryValue as error:
        raise LayerwiseError(f"{error.full_key}=… is missing; --help explains the options.") from error
    except YAMLError as error:
        raise LayerwiseError("cannot read the options: write KEY=VALUE, and lists without spaces: [A,B].") from error
    except OmegaConfBaseException as error:
        raise LayerwiseError(f"{error.full_key}: {str(error).splitlines()[0].rstrip('.')}.") from error
    return options  # type: ignore[no-any-return]


def at_least(minimum: int, **values: int | None) -> None:
    """Refuses options that are too small; null passes.

    Raises:
        LayerwiseError: names the option.
    """
    for name, value in values.items():
        if value is not None and value < minimum:
            raise LayerwiseError(f"{name}={value}: must be {minimum} or more.")
