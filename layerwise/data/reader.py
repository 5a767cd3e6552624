"""Where the samples of a data set come from: a class for each kind, in a module of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from layerwise.data import fingerprint
from layerwise.data.dataset import DatasetSpec, Resident, Split

Pair = tuple[Tensor, Tensor]
"""Values and labels: images uint8 [N, H, W, C] or vectors [N, F], and int64 [N] or real-valued targets."""


class Reader(ABC):
    """Reads one data set, for `factory.load`."""

    @abstractmethod
    def spec(self) -> DatasetSpec:
        """Returns shape, classes and statistics, without reading images.

        Raises:
            LayerwiseError: there is no such data set, or it is damaged; so do the others.
        """

    @abstractmethod
    def read(self, device: torch.device, crop_seed: int | None) -> tuple[Split, Split]:
        """Returns the samples to train on and to test on, on the device where they fit.

        Args:
            crop_seed: of the crops of training images that are made while these are decoded; None for none.
        """

    @abstractmethod
    def listing(self) -> str:
        """Returns a line for each image file or sample, which changes with it (`data.fingerprint`).

        Empty for images that are not there yet, and for records, which are known by the images they were made of.
        """


class InMemory(Reader):
    """Samples that are held in memory."""

    @abstractmethod
    def tensors(self) -> tuple[Pair, Pair]:
        """Returns the samples to train on and to test on."""

    def read(self, device: torch.device, crop_seed: int | None) -> tuple[Split, Split]:
        train, test = self.tensors()
        return Resident(*train, device), Resident(*test, device)

    def listing(self) -> str:
        train, test = self.tensors()
        return "\n".join(fingerprint.of_samples({"train": train, "test": test}))
