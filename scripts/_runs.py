"""What the scripts share that start runs of train.py and put several together."""

from __future__ import annotations

from pathlib import Path

from layerwise.analysis.spread import spread, with_spread
from layerwise.commands.compose import configuration
from layerwise.commands.in_process import run_here
from layerwise.commands.own_process import run_process

__all__ = ["ROOT", "call_script", "configuration", "run_here", "spread", "with_spread"]

ROOT = Path(__file__).resolve().parents[1]


def call_script(script: Path, words: list[str]) -> str | None:
    """Runs a script with its progress shown; None, or the last line of what it said if it failed."""
    return run_process([str(script), *words], ["python", str(script.relative_to(ROOT)), *words])
