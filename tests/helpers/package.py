"""The modules of the package and what they import."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from helpers.commands import ROOT

PACKAGE = ROOT / "layerwise"

ROOMS = (
    *("core", "models", "data", "features", "training", "config", "runs", "reporting", "experiment", "analysis"),
    "commands",
)
"""Folders of the package: a module imports from its own or from those before it."""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@cache
def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, those of layerwise as `layerwise.<room>.…`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "layerwise":
            found |= {f"layerwise.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)
