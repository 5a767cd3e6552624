"""Trains deep networks block by block.

`layerwise.load(run_folder)` returns the trained network of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerwise.runs.loading import TrainedNet, load

__version__ = "0.2.0"

__all__ = ["TrainedNet", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in ("TrainedNet", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from layerwise.runs import loading  # imports torch, which --help does not need

    return getattr(loading, name)
