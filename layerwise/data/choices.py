"""Values of options of the data. Imports no torch: the command line reads it."""

from __future__ import annotations

from enum import Enum


class Border(Enum):
    """Values of `dataset.border`: pixels beyond an image, in a shifted crop."""

    black = "black"
    reflect = "reflect"


class Flip(Enum):
    """Values of `dataset.flip`: which views of a training image are mirrored."""

    random = "random"
    alternating = "alternating"
    none = "none"


class Task(Enum):
    """Values of `dataset.task`: what the labels of a table are."""

    classification = "classification"
    regression = "regression"


class ValidationSplit(Enum):
    """Values of `dataset.validation_split`: which training samples are held out."""

    random = "random"
    last = "last"


SEPARATORS = {"tab": "\t", r"\t": "\t", "space": " "}
"""Separators that a command line cannot spell, by name."""
