"""The columns of one table: a CSV file in UTF-8, or a NumPy file, of which nothing can run code.

CSV needs a line of column names first; its cells stay strings, so that the label `01` is not `1`. A `.npy` file holds
one array [N, F + 1], whose columns are named 0, 1, …; a `.npz` file holds `x` [N, F] and `y` [N].
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerwise.core.errors import LayerwiseError
from layerwise.data.choices import SEPARATORS
from layerwise.data.split import TEST_PART

if TYPE_CHECKING:
    import pandas as pd  # slow to import: the functions that need it import it

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""How files write that a value is missing, in lower case."""

NUMPY_FORMATS = "A .npy file holds one array [N, F + 1], a .npz file x [N, F] and y [N]."

SNIFFED_ROWS = 100
"""So many rows decide what separates the cells."""

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity)"
DECIMAL_COMMA = r"[+-]?(?:\d+,?\d*|,\d+)(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class TableFiles:
    """Which files make up a data set, and which of their columns.

    Attributes:
        label: name of the column that holds the class or target; None for the last one.
        test_path: a second table with the same columns to test on; None tests on a part of the first.
        test: that part, in (0, 1); always the same rows, stratified.
        separator: between the cells of a CSV file, one character or a name of `SEPARATORS`; None takes the one of
            , ; tab and | that cuts all rows into equally many cells.
        columns: the features; None for all columns but the label.
        drop: columns that are no features.
        missing: words that mean a missing value, in any case; None for `MISSING`.
        regression: the label is a real number and no class.
    """

    path: Path
    label: str | None = None
    test_path: Path | None = None
    test: float = TEST_PART
    separator: str | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None
    regression: bool = False

    @property
    def missing_words(self) -> list[str]:
        """In lower case."""
        return [word.lower() for word in (MISSING if self.missing is None else self.missing)]


def is_number(cell: str) -> bool:
    """`1_0` is none."""
    return re.fullmatch(NUMBER, cell, re.IGNORECASE) is not None


def read_columns(files: TableFiles, path: Path) -> pd.DataFrame:
    """Returns all columns of a file: strings of CSV, numbers of NumPy files, where labels may be strings.

    Args:
        path: ending in .npy or .npz; all else is read as CSV.

    Raises:
        LayerwiseError: it is no table, or two columns have one name.
    """
    frame = _read_numpy(path) if path.suffix.lower() in (".npy", ".npz") else _read_csv(path, files)
    if twice := [name for name, n in Counter(frame.columns).items() if n > 1]:
        raise LayerwiseError(f"{path}: the column name '{twice[0]}' occurs more than once. Rename the others.")
    return frame


def _read_csv(path: Path, files: TableFiles) -> pd.DataFrame:
    """Returns all cells as strings without the space around them; decimal commas become points."""
    import pandas as pd

    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = SEPARATORS.get(files.separator or "", files.separator) or _sniff(text)
        rows = [[cell.strip() for cell in row] for row in _rows(text, separator, strict=True)]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise LayerwiseError(
            f"{path}: cannot be read as CSV ({error}). Save it as CSV in UTF-8, or name a .npy or .npz file."
        ) from error
    if not rows:
        raise LayerwiseError(f"{path}: is empty. Write the names of the columns in its first line, and rows below.")
    names = [name or f"unnamed {i}" for i, name in enumerate(rows.pop(0), 1)]
    for i, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise LayerwiseError(
                f"{path}, row {i}: has {len(row)} cells, the first line names {len(names)} columns (separated by "
                f"{separator!r}). Give each row a cell for each column, or name what separates them: dataset.separator."
            )
    frame = pd.DataFrame(rows, columns=names, dtype=str)
    columns = [column for _, column in frame.items()]
    in_row = [is_number(name) or name in set(column) for name, column in zip(names, columns, strict=True)]
    if all(in_row) and any(map(is_number, names)):
        raise LayerwiseError(f"{path}: its first line holds a row; write the names of the columns above it.")
    if separator == ",":
        return frame
    with_commas = [c.str.fullmatch(DECIMAL_COMMA) | c.str.lower().isin(files.missing_words) for c in columns]
    return pd.concat(
        [c.str.replace(",", ".") if commas.all() else c for c, commas in zip(columns, with_commas, strict=True)], axis=1
    )


def _rows(text: str, separator: str, strict: bool = False) -> Iterator[list[str]]:
    """Yields the rows that are not blank."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=strict)
    return (row for row in rows if "".join(row).strip())


def _sniff(text: str) -> str:
    """Returns the separator that cuts the first rows into equally many cells, and into most.

    Where none makes two or more of each, it is what the first line has most of.
    """

    def cells(separator: str) -> int:
        try:
            counts = {len(row) for row in islice(_rows(text, separator), SNIFFED_ROWS)}
        except csv.Error:  # a cell beyond the limit of the module
            return 0
        return counts.pop() if len(counts) == 1 else 0

    best = max("\t;|,", key=cells)  # of equals the first: a comma may be a decimal one
    first = next((line for line in text.split("\n") if line.strip()), "")
    return best if cells(best) > 1 else max(",;\t|", key=first.count)


def _read_numpy(path: Path) -> pd.DataFrame:
    """Returns the columns 0, 1, … of the one array, or of x and behind them y."""
    import pandas as pd

    single, arrays = path.suffix.lower() == ".npy", {}
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray) != single:
                raise ValueError(f"it has the content of a {'.npz' if single else '.npy'} file")
            for name in ["the array"] if single else ["x", "y"]:
                arrays[name] = loaded if single else loaded[name]
                if not isinstance(arrays[name], np.ndarray):
                    raise ValueError(f"its {name} is no array")
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        problem = str(error.args[0] if isinstance(error, KeyError) else error).rstrip(".")
        if "allow_pickle" in problem:  # what NumPy says of everything that is not its own
            problem = "it holds Python objects, or is no NumPy file"
        raise LayerwiseError(f"{path}: cannot be read ({problem}). {NUMPY_FORMATS}") from error
    for name, array in arrays.items():
        axes, kinds, needed = (1, "biufU", "or names along one axis") if name == "y" else (2, "biuf", "along two axes")
        if array.ndim != axes or array.dtype.kind not in kinds or not array.shape[-1]:
            raise LayerwiseError(
                f"{path}: {name} is {array.dtype} of shape {array.shape}; numbers {needed} are needed. {NUMPY_FORMATS}"
            )
    x, *labels = arrays.values()
    if labels and len(x) != len(labels[0]):
        raise LayerwiseError(f"{path}: x has {len(x)} rows and y has {len(labels[0])}. Both need one for each sample.")
    frame = pd.DataFrame(x, columns=[str(i) for i in range(x.shape[1])])
    return frame.assign(y=labels[0]) if labels else frame
