"""What the configuration asks of a data set: the keys that it has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from layerwise.config.groups import WHERE
from layerwise.config.outside import Outside
from layerwise.data.choices import ValidationSplit

if TYPE_CHECKING:  # torch
    from layerwise.data.dataset import DatasetSpec
    from layerwise.data.reader import Reader


@dataclass
class DatasetConfig(ABC):
    """The keys of conf/dataset/base.yaml, which every data set has; a subclass for each kind of data set adds its own.

    Attributes:
        name: a key of `datasets.DATASETS`; of a data set of another package any other.
    """

    root_is_data: ClassVar[bool] = False  # whether the folder is the data set, or says which version of it
    like_imagenet: ClassVar[bool] = False  # whether null is the paper's value for ImageNet, and not that for CIFAR-10

    name: str = MISSING
    root: str = field(default="data", metadata=WHERE)
    validation: float = 0.0
    validation_split: ValidationSplit = ValidationSplit.random
    folds: int | None = None
    fold: int = 1
    labelled: float = 1.0
    class_weights: Any = None  # "balanced" or a list of numbers
    standardise: bool = True
    limit: int | None = None
    limit_test: int | None = None

    @abstractmethod
    def reader(self, function: Outside | None) -> Reader:
        """Returns what reads the samples.

        Args:
            function: of another package, at `dataset._target_`.

        Raises:
            LayerwiseError: a key is missing.
        """

    def augmented(self, spec: DatasetSpec) -> DatasetSpec:
        """What is known of the data set, with the augmentation that was asked for.

        Raises:
            LayerwiseError: the samples cannot be augmented so.
        """
        return spec

    def plain(self) -> DatasetConfig:
        """The keys without augmentation."""
        return self

    @property
    def augments(self) -> bool:
        """Whether training images are augmented."""
        return False

    @property
    def fresh_views(self) -> bool:
        """Whether every stage augments them anew."""
        return False

    @property
    def regression(self) -> bool:
        """Whether the labels are quantities and no classes."""
        return False
