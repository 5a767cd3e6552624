"""Trains deep networks block by block.

`layerwise.load(run_folder)` gives the trained network of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerwise.runs.loading import TrainedNet, load

__all__ = ["TrainedNet", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from layerwise.runs import loading  # only now: what needs no network, such as a logger's process, needs no PyTorch

    return getattr(loading, name)
