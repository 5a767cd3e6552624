"""Columns of a table as numbers: text becomes one-hot, and what is missing NaN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import LayerwiseError
from layerwise.data.table_file import NUMBER, Table, TableFiles

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 100
"""A column with more different texts is a name or a number of something, and no category."""

Kinds = dict[str, "list[str] | None"]
"""By feature column in order: the categories of a column of text, where "" stands for missing; None for numbers."""


def cells_of(column: pd.Series, files: TableFiles) -> tuple[pd.Series, NDArray[np.bool_]]:
    """A column's cells, and which of them are missing."""
    if column.dtype.kind in "biuf":
        return column, column.isna().to_numpy()
    return column, column.str.lower().isin(files.missing_words).to_numpy()


def is_number(cells: pd.Series) -> NDArray[np.bool_]:
    """Which cells are numbers; `1_0` is none."""
    if cells.dtype.kind in "biuf":
        return np.ones(len(cells), dtype=bool)
    return np.asarray(cells.str.fullmatch(NUMBER, case=False), dtype=bool)


def numbers_of(cells: pd.Series) -> NDArray[np.float64]:
    """The values of cells that are numbers."""
    return np.asarray(cells.astype(np.float64))


def column_kinds(table: Table, files: TableFiles, train: NDArray[np.int64]) -> Kinds:
    """Returns what each feature column holds, decided from the training rows.

    Raises:
        LayerwiseError: a column of numbers and text, of too many texts, or without any value.
    """
    kinds: Kinds = {}
    for name in table.frame:
        cells, lacking = cells_of(table.frame[name], files)
        numeric = is_number(cells)
        known, drop = ~lacking, f"or leave it out: dataset.drop=[{name}]."
        where = f"{table.path}, column '{name}'"
        if not known[train].any():
            raise LayerwiseError(f"{where}: no training row has a value. Fill it in, {drop}")
        if numeric[known].all():
            kinds[name] = None
            continue
        if numeric[known].any():
            row = int((known & ~numeric).argmax())
            raise LayerwiseError(
                f"{where}: holds numbers and text ('{cells[row]}' in row {row + 1} is no number). Write it as numbers, "
                f"{drop}"
            )
        categories = sorted({*cells.to_numpy()[train][known[train]]})
        if len(categories) > MOST_CATEGORIES:
            raise LayerwiseError(
                f"{where}: holds {len(categories)} different texts, too many for categories; {drop[3:]}"
            )
        kinds[name] = [*([""] if lacking[train].any() else []), *categories]
    return kinds


def encode(path: Path, frame: pd.DataFrame, kinds: Kinds, files: TableFiles) -> Tensor:
    """Returns features float64 [N, F]: numbers with NaN for missing ones, and 0 and 1 for each category.

    A text that is no category has 0 for all of them.

    Args:
        frame: with the columns of `kinds`, perhaps others.

    Raises:
        LayerwiseError: a column is missing, a cell is no number where one belongs, or infinite.
    """
    features: list[NDArray[np.float64]] = []
    for name, categories in kinds.items():
        if name not in frame:
            raise LayerwiseError(f"{path}: has no column '{name}', which the network was trained on.")
        cells, lacking = cells_of(frame[name], files)
        if categories is not None:
            texts = np.where(lacking, "", cells.astype(str).to_numpy())
            features += [(texts == category).astype(np.float64) for category in categories]
            continue
        if (wrong := ~lacking & ~is_number(cells)).any():
            row = int(wrong.argmax())
            raise LayerwiseError(
                f"{path}, row {row + 1}, column '{name}': '{cells[row]}' is no number. Write it as one."
            )
        numbers = np.full(len(frame), np.nan)
        numbers[~lacking] = numbers_of(cells[~lacking])
        if (wrong := np.isinf(numbers)).any():
            row = int(wrong.argmax())
            raise LayerwiseError(
                f"{path}, row {row + 1}, column '{name}': the value is infinite. Leave that row or column out."
            )
        features.append(numbers)
    return torch.from_numpy(np.stack(features, axis=1))
