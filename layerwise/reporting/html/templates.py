"""The templates of the pages, in assets/: every value is escaped, and an unknown name is an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from layerwise.reporting.html.words import duration, shown


def template(name: str, **filters: Callable[..., Any]) -> Template:
    """Returns a template with its filters, besides `duration` and `shown`."""
    environment = _environment()
    environment.filters |= filters
    return environment.get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("layerwise.reporting.html", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "shown": shown}
    return environment
