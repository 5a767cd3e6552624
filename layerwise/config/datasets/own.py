"""A data set of another package (`dataset._target_`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from layerwise.config.datasets.images import ImagesConfig
from layerwise.config.outside import Outside

if TYPE_CHECKING:  # torch
    from layerwise.data.own import Own, Samples


@dataclass
class OwnConfig(ImagesConfig):
    """The keys of conf/dataset/own.yaml; all others are arguments of the function."""

    def reader(self, function: Outside | None) -> Own:
        from layerwise.data.own import Own  # loads torch

        assert function is not None, "`parse` takes this class where there is one"
        arguments = json.dumps(function.arguments)
        return Own(self.name, _samples(function.place, function.target, arguments, function.trusted, self.root))


@lru_cache(maxsize=1)
def _samples(place: str, target: str, arguments: str, trusted: bool, root: str) -> Samples:
    """The samples of a function of another package; it is called once in this process.

    Raises:
        LayerwiseError: the function gives no such samples.
    """
    from layerwise.data.own import checked_samples

    own = Outside(place, target, json.loads(arguments), trusted)
    return checked_samples(own(root=Path(root)), own.key)
