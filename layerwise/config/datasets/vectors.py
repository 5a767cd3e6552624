"""`dataset=blobs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerwise.config.datasets.base import DatasetConfig
from layerwise.config.outside import Outside

if TYPE_CHECKING:  # torch
    from layerwise.data.toy import Blobs


@dataclass
class BlobsConfig(DatasetConfig):
    """The keys of conf/dataset/blobs.yaml."""

    def reader(self, function: Outside | None) -> Blobs:
        from layerwise.data.toy import Blobs

        return Blobs()
