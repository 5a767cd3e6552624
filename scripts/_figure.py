"""What the figures of the scripts share: the drawing library, a palette, and how a file is written."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

from layerwise.errors import LayerwiseError
from layerwise.storage import write_atomically

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart, in the order of use."""

MARKERS = "osD^vP*"
"""A marker for each colour: lines can be told apart without colours, too."""

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def pyplot() -> ModuleType:
    """matplotlib.pyplot, which draws to files only.

    Raises:
        LayerwiseError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise LayerwiseError('figures need matplotlib: pip install -e ".[report]"') from error
    matplotlib.use("Agg")
    import matplotlib.pyplot

    matplotlib.pyplot.rcParams.update(STYLE)
    return matplotlib.pyplot


def save(figure: Any, path: Path) -> None:
    """Writes a matplotlib figure as PNG, atomically, closes it, and says where.

    Raises:
        LayerwiseError: the file cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=160, bbox_inches="tight")
    pyplot().close(figure)
    write_atomically(path, content.getvalue(), kept="What was computed is in the JSON file.")
    print(f"figure: {path}")
