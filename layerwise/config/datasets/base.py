"""What the configuration asks of a data set: the keys that it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from layerwise.config.groups import WHERE
from layerwise.data.choices import ValidationSplit


@dataclass
class DatasetConfig:
    """The keys of conf/dataset/base.yaml, which every data set has; a subclass for each kind of data set adds its own.

    Attributes:
        name: a key of `datasets.DATASETS`; of a data set of another package any other.
    """

    root_is_data: ClassVar[bool] = False  # whether the folder is the data set, or says which version of it

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

    @property
    def augments(self) -> bool:
        """Whether training images are augmented."""
        return False

    @property
    def regression(self) -> bool:
        """Whether the labels are quantities and no classes."""
        return False
