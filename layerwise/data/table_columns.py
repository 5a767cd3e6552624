"""Columns of a table as numbers: text becomes one-hot, and what is missing NaN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import LayerwiseError
from layerwise.data.table_file import NUMBER, TableFiles

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 100
"""A column with more different texts is a name or a number of something, and no category."""

ENOUGH_ROWS = 10
"""In shorter tables a counter or a column of unique values may be chance."""

Kinds = dict[str, "list[str] | None"]
"""By feature column in order: the categories of a column of text, where "" stands for missing; None for numbers."""


def features_of(kinds: Kinds) -> list[str]:
    """Returns the column that each of the F features comes from."""
    return [name for name, categories in kinds.items() for _ in ([0] if categories is None else categories)]


class Column:
    """The N cells of a feature column.

    Args:
        column: strings, or numbers of a NumPy file.

    Attributes:
        cells: [N] as they are written.
        lacking: [N], which of them are missing.
        numbers: float64 [N], NaN for what is missing or no number.
        text: [N], which cells are neither missing nor a number.
    """

    def __init__(self, path: Path, column: pd.Series, files: TableFiles) -> None:
        self.path, self.name = path, str(column.name)
        self.cells = column.to_numpy(dtype=object)
        self.numbers: NDArray[np.float64]
        if column.dtype.kind in "biuf":
            self.numbers = column.to_numpy(dtype=np.float64)
            self.lacking = np.isnan(self.numbers)
        else:
            self.lacking = column.str.lower().isin(files.missing_words).to_numpy(dtype=bool)
            numeric = column.str.fullmatch(NUMBER, case=False).to_numpy(dtype=bool) & ~self.lacking
            self.numbers = column.where(numeric).to_numpy(dtype=np.float64)
        self.text: NDArray[np.bool_] = ~self.lacking & np.isnan(self.numbers)

    def categories(self, train: NDArray[np.int64]) -> list[str] | None:
        """Returns what the column holds, decided from the training rows; see `Kinds`.

        Raises:
            LayerwiseError: too many texts, or no value in any training row.
        """
        lacking = self.lacking[train]
        if not lacking.all() and (not self.text.any() or not np.isnan(self.numbers).all()):
            return None
        found = sorted({*self.cells[train][~lacking]})
        if not 0 < len(found) <= MOST_CATEGORIES:
            several = f"holds {len(found)} different texts, too many for categories"
            raise LayerwiseError(
                f"{self.path}, column '{self.name}': {several if found else 'no training row has a value'}. Leave it "
                f"out: dataset.drop=[{self.name}]."
            )
        return [""] * bool(lacking.any()) + found

    def encode(self, categories: list[str] | None) -> NDArray[np.float64]:
        """Returns [N, 1] numbers with NaN for missing ones, or 0 and 1 [N, c] with zeros for a text of no category.

        Raises:
            LayerwiseError: a cell is no number where one belongs, or infinite.
        """
        if categories is not None:
            texts = np.where(self.lacking, "", self.cells.astype(str))
            return np.asarray(texts[:, None] == np.array(categories), dtype=np.float64)
        if (wrong := self.text | np.isinf(self.numbers)).any():
            row = int(wrong.argmax())
            problem = "is no number, as others of this column are" if self.text[row] else "is infinite"
            raise LayerwiseError(
                f"{self.path}, row {row + 1}, column '{self.name}': '{self.cells[row]}' {problem}. Write a number, or "
                f"leave that row or column out: dataset.drop=[{self.name}]."
            )
        return self.numbers[:, None]

    def notes(self, categories: list[str] | None) -> list[str]:
        """What a user should know of the column."""
        notes, column = [], f"column '{self.name}'"
        if categories is not None:
            of_which = ", of which one is for missing values" * ("" in categories)
            notes.append(f"{column} is text; it became one-hot: {len(categories)} categories{of_which}")
        notes += self.gaps(categories)
        if words := sorted({cell for cell in self.cells[self.lacking] if isinstance(cell, str) and cell}):
            notes.append(f"{column}: {', '.join(words)} is read as missing; dataset.missing says which words are")
        if like := self._like_an_index():
            notes.append(
                f"warning: {column} {like}, which may give the label away. If it is an index, leave it out: "
                f"dataset.drop=[{self.name}]"
            )
        return notes

    def gaps(self, categories: list[str] | None) -> list[str]:
        """Which cells are missing or of no category that training rows have, and what becomes of them."""
        if categories is None:
            lacks = (
                f"column '{self.name}' lacks {self.lacking.sum()} values; they get the median of the training samples"
            )
            return [lacks] if self.lacking.any() else []
        new = sorted({*np.where(self.lacking, "", self.cells.astype(str)).tolist()} - {*categories})
        some = ", ".join(repr(text) for text in new[:5]) + ", …" * (len(new) > 5)
        return [f"column '{self.name}': {some} occurs in no training row and counts as no category"] if new else []

    def _like_an_index(self) -> str:
        """How the numbers follow the rows of a file, or of one that was shuffled since; empty if they do not."""
        n, numbers = len(self.cells), self.numbers
        steps = np.diff(numbers)
        if n < ENOUGH_ROWS or not np.isfinite(numbers).all():
            return ""
        if (steps == 1).all():
            return "counts the rows in file order"
        if (steps > 0).all() or (steps < 0).all():
            return f"{'rises' if steps[0] > 0 else 'falls'} from row to row"
        whole = (numbers == np.floor(numbers)).all() and len(np.unique(numbers)) == n
        return "counts the rows in another order" if whole and n >= 2 * ENOUGH_ROWS and np.ptp(numbers) < 2 * n else ""


def encode(path: Path, frame: pd.DataFrame, kinds: Kinds, files: TableFiles) -> Tensor:
    """Returns the features float64 [N, F] of a frame that has the columns of `kinds`, and perhaps others.

    Raises:
        LayerwiseError: a column is missing; see `Column.encode`.
    """
    if absent := [name for name in kinds if name not in frame]:
        raise LayerwiseError(
            f"{path}: has no column '{absent[0]}', which the network was trained on. Add it to the file."
        )
    encoded = [Column(path, frame[name], files).encode(categories) for name, categories in kinds.items()]
    return torch.from_numpy(np.concatenate(encoded, axis=1))
