"""Trains deep networks block by block.

`layerwise.load(run_folder)` returns the trained network of a run; `layerwise.results("outputs/*")` the results of many
as a pandas frame, a row per run and depth.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerwise.analysis.frame import results
    from layerwise.runs.loading import TrainedNet, load

__version__ = "0.2.0"

__all__ = ["TrainedNet", "__version__", "load", "results"]


def __getattr__(name: str) -> Any:
    modules = {"TrainedNet": "runs.loading", "load": "runs.loading", "results": "analysis.frame"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)  # imports torch, which --help does not need
