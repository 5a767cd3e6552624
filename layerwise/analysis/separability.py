"""The figure of separability over depth, from probes.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from layerwise.analysis.drawing import over_depth

PROBES = {"linear": "linear separability", "cnn1": "CNN-1 separability", "cnn2": "CNN-2 separability"}
"""Keys of a depth in probes.json, and their titles."""


def labels(runs: Sequence[dict[str, Any]]) -> list[str]:
    """`k = 3, M = 128` of each run's probes.json, with the run's name, and a number, where these are equal."""
    plain = [plain_label(run) for run in runs]
    often = Counter(plain)
    named = [f"{text}, {run['name']}" if often[text] > 1 else text for text, run in zip(plain, runs, strict=True)]
    return [text if named.count(text) == 1 else f"{text} ({i})" for i, text in enumerate(named, 1)]


def plain_label(run: dict[str, Any]) -> str:
    """`k = 3, M = 128`."""
    return f"k = {run['k']}" + (f", M = {run['width']}" if run["width"] else "")


def draw(lines: Mapping[str, Sequence[dict[str, Any]]], plt: ModuleType) -> Any:
    """Separability over depth: a panel per probe, with a line per label, the mean of several probes.json."""
    figure, panels = plt.subplots(1, len(PROBES), figsize=(10, 3.6), sharex=True, sharey=True)
    for panel, (probe, title) in zip(panels, PROBES.items(), strict=True):
        for i, (label, runs) in enumerate(lines.items()):
            curves = [{row["block"]: row[probe] for row in run["depths"]} for run in runs]
            over_depth(panel, i, curves, "-", label=label)
        panel.set(title=title, xlabel="depth j")
        panel.set_xticks(range(1, max(run["planned"] for runs in lines.values() for run in runs) + 1))
    panels[0].set_ylabel("test accuracy (%)")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure
