"""The page of `layerwise watch`: a table of runs with their curves, made anew as the files grow.

All values pass through Jinja's escaping. The page's script and style are files of their own, so that its policy can
forbid any script inside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.html.templates import template

WIDTH, HEIGHT = 180, 36
"""Of a curve, in pixels."""

MOST_POINTS = 120
"""Of a curve."""


def curves(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The training loss of each stage as the points of an SVG polyline; all have one scale, which begins at 0."""
    losses = [(line["stage"], line["loss"]) for line in lines if line["loss"] is not None]
    if not losses:
        return []
    step, highest = -(-len(losses) // MOST_POINTS), max(max(loss for _, loss in losses), 1e-12)
    found: dict[int, list[str]] = {}
    for i, (stage, loss) in enumerate(losses):
        if i % step == 0 or i == len(losses) - 1:
            x, y = WIDTH * i / max(1, len(losses) - 1), HEIGHT * (1 - max(0.0, loss) / highest)
            found.setdefault(stage, []).append(f"{x:.1f},{y:.1f}")
    return [" ".join(points) for points in found.values()]


def live_rows(runs: Sequence[Any]) -> str:
    """The rows of the table alone, for a page that is open."""
    return _render("live_rows.html.j2", runs)


def live_page(runs: Sequence[Any], tops: Sequence[str]) -> str:
    """The page.

    Args:
        runs: `WatchedRun`s of `analysis/watching.py`.
        tops: the folders that are watched.
    """
    return _render("live.html.j2", runs, tops=tops)


def ago(moment: float) -> str:
    """How long ago a moment was, in seconds up to two minutes and then in minutes or hours."""
    seconds = max(0.0, time.time() - moment)
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def _render(name: str, runs: Sequence[Any], **more: Any) -> str:
    return template(name, ago=ago, curves=curves).render(runs=runs, width=WIDTH, height=HEIGHT, **more)
