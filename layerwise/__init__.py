"""Trains deep networks block by block.

`layerwise.load(run_folder)` gives the trained network of a run.
"""

from layerwise.loading import TrainedNet, load

__all__ = ["TrainedNet", "load"]
