"""A data set of another package (`dataset._target_`)."""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.config.datasets.images import ImagesConfig


@dataclass
class OwnConfig(ImagesConfig):
    """The keys of conf/dataset/own.yaml; all others are arguments of the function."""
