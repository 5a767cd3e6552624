"""`dataset=blobs`."""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.config.datasets.base import DatasetConfig


@dataclass
class BlobsConfig(DatasetConfig):
    """The keys of conf/dataset/blobs.yaml."""
