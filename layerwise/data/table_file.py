"""The content of one table: a CSV file as pandas reads it, or a NumPy file.

CSV needs a line of column names first. A `.npy` file holds one two-dimensional array, whose columns are named 0, 1, …;
a `.npz` file holds the arrays `x` [N, F] and `y` [N]. Labels of CSV files stay the strings that they are: `01` is not
`1`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from layerwise.core.errors import LayerwiseError, suggest
from layerwise.data.numpy_files import read_npy, read_npz
from layerwise.data.split import TEST_PART

if TYPE_CHECKING:
    import pandas as pd  # slow to import: the functions that need it import it

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""How files write that a value is missing, in lower case."""

LABEL_NAMES = {"label", "labels", "class", "target", "y"}
"""How files call the column of the classes, in lower case."""

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity)"


@dataclass(frozen=True)
class TableFiles:
    """Which files make up a data set, and which of their columns.

    Attributes:
        path: of the table.
        label: name of the column that holds the class; None for the last one.
        test_path: a second table with the same columns to test on; None tests on a part of the first.
        test: that part, in (0, 1); always the same rows, stratified.
        separator: between the cells of a CSV file; None takes what its first line has most of: , ; tab or |.
        columns: the features; None for all columns but the label.
        drop: columns that are no features.
        missing: words that mean a missing value, in any case; None for `MISSING`.
    """

    path: Path
    label: str | None = None
    test_path: Path | None = None
    test: float = TEST_PART
    separator: str | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None

    @property
    def missing_words(self) -> list[str]:
        """In lower case."""
        return [word.lower() for word in (MISSING if self.missing is None else self.missing)]


@dataclass(frozen=True)
class Table:
    """A file's content.

    Attributes:
        path: of the file.
        frame: the feature columns, as strings or (of NumPy files) numbers.
        label: name of the label column.
        labels: N names of classes.
    """

    path: Path
    frame: pd.DataFrame
    label: str
    labels: list[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, whole numbers in the order of numbers."""
        names = set(self.labels)
        numeric = all(re.fullmatch("-?[0-9]+", name) for name in names)
        return tuple(sorted(names, key=lambda name: (int(name) if numeric else 0, name)))


def read_table(files: TableFiles, path: Path, option: str = "dataset.path") -> Table:
    """Returns the content of one file.

    Args:
        path: ending in .npy or .npz; all else is read as CSV.

    Raises:
        LayerwiseError: see `read`.
    """
    if not path.is_file():
        raise LayerwiseError(f"{option}={path}: there is no such file. Say where it is: {option}=FILE.csv.")
    status = path.stat()
    return _read_table(files, path, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=4)
def _read_table(files: TableFiles, path: Path, changed: tuple[int, int]) -> Table:
    """`changed` makes a file that was rewritten another entry of the cache."""
    frame, label = read_columns(files, path)
    label_column = _label_column(path, list(frame.columns), label)
    labels = _labels(path, frame[label_column], label_column, files)
    others = [name for name in frame.columns if name != label_column]
    if path.suffix.lower() not in (".npy", ".npz") and label_column in labels and all(map(_is_number, others)):
        raise LayerwiseError(f"{path}: its first line holds a row; write the names of the columns above it.")
    for name in (*(files.columns or ()), *files.drop):
        if name not in frame:
            where = "columns" if name in (files.columns or ()) else "drop"
            raise LayerwiseError(f"dataset.{where}: {path} has no column '{name}'.{suggest(name, frame.columns)}")
    chosen = frame.columns if files.columns is None else files.columns
    features = frame[[name for name in chosen if name != label_column and name not in files.drop]]
    if features.empty:
        raise LayerwiseError(
            f"{path}: holds {len(features)} rows and {features.shape[1]} columns beside the label; it needs one of "
            "each or more. Name what separates the cells with dataset.separator."
        )
    return Table(path, features, label_column, labels)


def read_columns(files: TableFiles, path: Path) -> tuple[pd.DataFrame, str | None]:
    """Returns all columns of a file, and the name of the label column if it is known.

    Raises:
        LayerwiseError: it is no table, or two columns have one name.
    """
    label = files.label
    if path.suffix.lower() == ".npz":
        frame, label = read_npz(path, label)
    elif path.suffix.lower() == ".npy":
        frame = read_npy(path)
    else:
        frame = _read_csv(path, files.separator)
    if twice := [name for name, n in Counter(frame.columns).items() if n > 1]:
        raise LayerwiseError(f"{path}: the column name '{twice[0]}' occurs more than once. Rename the others.")
    return frame, label


def _read_csv(path: Path, separator: str | None) -> pd.DataFrame:
    """Returns all cells as strings without the space around them."""
    import pandas as pd

    try:
        text = re.sub(r"\A(?:[^\S\n]*\n)+", "", path.read_text(encoding="utf-8-sig"))
        first = text.split("\n", 1)[0]
        separator = separator or max(",;\t|", key=first.count)
        _check_widths(path, text, separator)
        frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise LayerwiseError(
            f"{path}: is empty. Write the names of the columns in its first line, and rows below."
        ) from error
    except (OSError, ValueError, csv.Error, pd.errors.ParserError) as error:
        raise LayerwiseError(
            f"{path}: cannot be read as CSV ({str(error).strip()}). Save it as CSV in UTF-8, or name a .npy or .npz "
            "file."
        ) from error
    frame = frame.apply(lambda column: column.str.strip())
    names, frame = frame.iloc[0].tolist(), frame[~frame.eq("").all(axis=1)].iloc[1:].reset_index(drop=True)
    if all(map(_is_number, names)):
        raise LayerwiseError(f"{path}: its first line holds numbers; write the names of the columns there.")
    if separator == ";":  # where a comma is the decimal point
        frame = frame.apply(lambda column: column.str.replace(",", ".") if is_decimal(column) else column)
    frame.columns = pd.Index([name or f"unnamed {i}" for i, name in enumerate(names, 1)])
    return frame


def _check_widths(path: Path, text: str, separator: str) -> None:
    """Refuses rows with too few cells, which pandas would fill up, and with too many."""
    rows = (row for row in csv.reader(io.StringIO(text), delimiter=separator) if "".join(row).strip())
    names = next(rows, [])
    for i, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise LayerwiseError(
                f"{path}, row {i}: has {len(row)} cells, the first line names {len(names)} columns. "
                "Give each row a cell for each column."
            )


def _is_number(text: str) -> bool:
    return re.fullmatch(NUMBER, text, re.IGNORECASE) is not None


def is_decimal(column: pd.Series) -> bool:
    """Whether all cells are empty, or numbers with or without a decimal comma."""
    return bool(column.str.fullmatch(r"(?:[+-]?\d+(?:,\d+)?)?").all())


def _label_column(path: Path, columns: list[str], label: str | None) -> str:
    if label is None:
        other = [name for name in columns[:-1] if name.lower() in LABEL_NAMES]
        if other and columns[-1].lower() not in LABEL_NAMES:
            raise LayerwiseError(
                f"{path}: the last column, '{columns[-1]}', would be taken for the label, but there is a column "
                f"'{other[0]}'. Say which it is: dataset.label={other[0]} or dataset.label={columns[-1]}."
            )
        return columns[-1]
    if label not in columns:
        remedy = " Name what separates the cells with dataset.separator." if len(columns) == 1 else ""
        raise LayerwiseError(f"dataset.label={label}: {path} has no such column.{remedy or suggest(label, columns)}")
    return label


def _labels(path: Path, column: pd.Series, label: str, files: TableFiles) -> list[str]:
    """The classes as they are written; of numbers in NumPy files `2` for 2.0."""
    names = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in column.tolist()]
    for i, name in enumerate(names):
        where = f"{path}, row {i + 1}, column '{label}'"
        if name.lower() in files.missing_words:
            word = f"the word '{name}' is read as missing" if name else "the label is missing"
            keep = " If it is a class, say which words mean missing: dataset.missing=['',NA]." if name else ""
            raise LayerwiseError(f"{where}: {word}. Fill it in, or leave that row out.{keep}")
        if _is_number(name) and not float(name).is_integer():
            raise LayerwiseError(
                f"{where}: the label {name} is no class. Labels are whole numbers or names; name another column with "
                "dataset.label."
            )
    return names
