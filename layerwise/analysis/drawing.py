"""What all figures share: the drawing library, a palette, and writing to a file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from layerwise.core.colours import further_colour
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.core.spread import spread

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart, in the order of use."""

MARKERS = "osD^vP*"
"""A marker for each colour: lines can be told apart without colours, too."""

STYLE: dict[str, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "svg.fonttype": "none",  # letters stay text
    "svg.hashsalt": "layerwise",  # the same figure is the same file
}


DATES = {".pdf": "CreationDate", ".svg": "Date"}
"""What the vector formats call the time that they note."""


def pyplot() -> ModuleType:
    """matplotlib.pyplot, set up to draw to files only.

    Raises:
        LayerwiseError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise LayerwiseError("figures need matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot

    matplotlib.pyplot.rcParams.update(STYLE)  # type: ignore[arg-type, unused-ignore]
    return matplotlib.pyplot


def save(figure: Any, *paths: Path) -> None:
    """Writes a matplotlib figure atomically, as PDF, SVG or PNG by the name's extension, closes it and prints the path.

    Raises:
        LayerwiseError: a file cannot be written.
    """
    for path in paths:
        content = io.BytesIO()
        form = path.suffix[1:] if path.suffix in DATES else "png"
        dated = {DATES[path.suffix]: None} if path.suffix in DATES else {}  # the same figure is the same file
        figure.savefig(content, format=form, dpi=160, bbox_inches="tight", pad_inches=0.04, metadata=dated)
        write_atomically(path, content.getvalue(), kept="What was computed is in the JSON file.")
        print(f"figure: {path}")
    pyplot().close(figure)


def colour_of(number: int) -> str:
    """Returns the colour of a line; no two numbers have the same."""
    return PALETTE[number] if number < len(PALETTE) else further_colour(number)


def over_depth(panel: Any, number: int, curves: Sequence[Mapping[int, float]], style: str, **more: Any) -> None:
    """Draws a line over depth: the mean of several runs, with a band of one sample standard deviation.

    Args:
        curves: one dictionary per run, from depth to value; a depth may be missing in some.
        more: further arguments of matplotlib's `plot`.
    """
    color, marker = colour_of(number), MARKERS[number % len(MARKERS)]
    depths = sorted({depth for curve in curves for depth in curve})
    at = [[curve[depth] for curve in curves if depth in curve] for depth in depths]
    found = [spread(values) for values in at]
    means = [of["mean"] for of in found]
    panel.plot(depths, means, style + marker, color=color, **more)
    if len(curves) > 1:
        bands = [(of["mean"] - (of["std"] or 0), of["mean"] + (of["std"] or 0)) for of in found]
        panel.fill_between(depths, *zip(*bands, strict=True), color=color, alpha=0.15, linewidth=0)
        for curve in curves:
            panel.plot(list(curve), list(curve.values()), ".", color=color, alpha=0.5, markersize=3)
