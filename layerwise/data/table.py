"""Tables from a CSV or NumPy file: numbers in the columns, the class in one of them.

CSV needs a line of column names first. A `.npy` file holds one two-dimensional array, whose columns
are named 0, 1, …; a `.npz` file holds the arrays `x` [N, F] and `y` [N].
"""

from __future__ import annotations

import csv
import hashlib
import re
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerwise.core.errors import LayerwiseError, suggest
from layerwise.core.randomness import key
from layerwise.data.dataset import DatasetSpec
from layerwise.data.split import stratified_order

MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
"""How files write that a value is missing, in lower case."""

LABELS = "y"
"""Array of a `.npz` file that holds the classes."""


@dataclass(frozen=True)
class TableFiles:
    """Which files make up a data set.

    Attributes:
        path: of the table.
        label: name of the column that holds the class; None for the last one.
        test_path: a second table with the same columns to test on; None tests on a part of the first.
        test: that part, in (0, 1); always the same rows, stratified.
    """

    path: Path
    label: str | None = None
    test_path: Path | None = None
    test: float = 0.2


@dataclass(frozen=True)
class Table:
    """A file's content.

    Attributes:
        features: [N, F] float32.
        labels: names of the classes, N of them.
        columns: names of the features.
    """

    features: Tensor
    labels: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, numbers in the order of numbers."""
        names = set(self.labels)
        numeric = all(re.fullmatch("-?[0-9]+", name) for name in names)
        return tuple(sorted(names, key=int if numeric else str))


def spec(files: TableFiles) -> DatasetSpec:
    """Shape and classes of a table.

    Raises:
        LayerwiseError: see `read`.
    """
    splits = read(files)
    (train, _), (test, _) = splits
    table = read_file(files.path, files.label)
    digest = hashlib.sha256()
    for values in (part for split in splits for part in split):
        digest.update(values.numpy().tobytes())
    return DatasetSpec(
        name="table",
        shape=(train.shape[1],),
        classes=table.classes,
        mean=(),
        std=(),
        train_samples=len(train),
        test_samples=len(test),
        digest=digest.hexdigest()[:8],
    )


def read(files: TableFiles) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(features float32 [N, F], labels int64 [N]) of train and of test.

    Raises:
        LayerwiseError: a file that is absent or no table, a missing or infinite value, text where a number
            belongs, no such label column, a label that is no class, a single class, columns or classes of the
            test table that the table does not have, or a test part without rows.
    """
    table = read_file(files.path, files.label)
    classes = table.classes
    number = {name: i for i, name in enumerate(classes)}
    if len(classes) < 2:
        raise LayerwiseError(
            f"{files.path}: all rows are of class '{classes[0]}'; there is nothing to classify. "
            "Name the column that holds the classes with dataset.label."
        )
    labels = torch.tensor([number[name] for name in table.labels])
    if files.test_path is not None:
        other = read_file(files.test_path, files.label, option="dataset.test_path")
        if other.columns != table.columns:
            raise LayerwiseError(
                f"{files.test_path}: its columns are not those of {files.path}, in their order"
                f"{_difference(other.columns, table.columns)}. Give both the same columns."
            )
        if unknown := set(other.labels) - set(number):
            raise LayerwiseError(
                f"{files.test_path}: class '{min(unknown)}' does not occur in {files.path}. Leave its rows out, or add "
                "some to train on."
            )
        return (table.features, labels), (other.features, torch.tensor([number[name] for name in other.labels]))
    held = round(files.test * len(labels))
    if not 0 < held < len(labels):
        raise LayerwiseError(
            f"dataset.test={files.test}: of {len(labels)} rows this leaves {held} to test on and {len(labels) - held} "
            "to train on. Choose a fraction that leaves some on both sides, or give test rows: dataset.test_path=FILE."
        )
    order = stratified_order(labels, key("table", "test"))
    test, train = order[:held].sort().values, order[held:].sort().values
    return (table.features[train], labels[train]), (table.features[test], labels[test])


def _difference(columns: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    for name, other in zip(columns, wanted, strict=False):
        if name != other:
            return f": '{name}' is where '{other}' should be"
    return f": {len(columns)} beside the label, and not {len(wanted)}"


def read_file(path: Path, label: str | None, option: str = "dataset.path") -> Table:
    """The content of one file.

    Args:
        path: ending in .csv, .npy or .npz.
        label: see `TableFiles`.
        option: that named the file.

    Raises:
        LayerwiseError: see `read`.
    """
    if not path.is_file():
        raise LayerwiseError(f"{option}={path}: there is no such file. Say where it is: {option}=FILE.csv.")
    status = path.stat()
    return _read_file(path, label, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=2)
def _read_file(path: Path, label: str | None, changed: tuple[int, int]) -> Table:
    """`changed` makes a file that was rewritten another entry of the cache."""
    readers = {".npy": _read_npy, ".npz": _read_npz}
    columns, features, labels = readers.get(path.suffix.lower(), _read_csv)(path, label)
    if not len(labels) or not columns:
        raise LayerwiseError(
            f"{path}: holds {len(labels)} rows and {len(columns)} columns beside the label; it needs one of each or "
            "more. Cells of a CSV file are separated by commas."
        )
    with np.errstate(over="ignore"):
        values = features.astype(np.float32)
    if len(bad := np.argwhere(~np.isfinite(values))):
        i, f = bad[0]
        problem = "too large for float32" if np.isfinite(features[i, f]) else "missing or infinite"
        raise LayerwiseError(f"{_cell(path, i, columns[f])}: the value is {problem}. {REMEDY}")
    return Table(torch.from_numpy(values), tuple(labels), tuple(columns))


_Content = tuple[list[str], "np.ndarray[Any, Any]", list[str]]
"""Names of the features, the features [N, F], and the classes' names."""

REMEDY = "Fill it in, or leave that row or column out."
FORMATS = "A .npy file holds one array [N, F + 1], a .npz file x [N, F] and y [N]."


def _label_place(path: Path, columns: list[str], label: str | None) -> int:
    if label is None:
        return max(0, len(columns) - 1)
    if label not in columns:
        commas = " Cells of a CSV file are separated by commas." if len(columns) == 1 else suggest(label, columns)
        raise LayerwiseError(f"dataset.label={label}: {path} has no such column.{commas}")
    if columns.count(label) > 1:
        raise LayerwiseError(
            f"dataset.label={label}: {path} has {columns.count(label)} such columns. Rename the others."
        )
    return columns.index(label)


def _read_csv(path: Path, label: str | None) -> _Content:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LayerwiseError(
            f"{path}: cannot be read as CSV ({error}). Save it as CSV in UTF-8, or name a .npy or .npz file."
        ) from error
    lines = [cells for cells in lines if cells not in ([], [""])]  # without blank lines
    if not lines:
        raise LayerwiseError(f"{path}: is empty. Write the names of the columns in its first line, and rows below.")
    columns, rows = lines[0], lines[1:]
    if all(_is_number(name) for name in columns):
        raise LayerwiseError(f"{path}: its first line holds numbers; write the names of the columns there.")
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise LayerwiseError(
                f"{path}, row {i + 1}: has {len(row)} cells, the first line names {len(columns)} columns. "
                "Give each row a cell for each column."
            )
    place = _label_place(path, columns, label)
    column = columns.pop(place)
    labels = [_class_name(path, i, column, row.pop(place)) for i, row in enumerate(rows)]
    if column in labels and all(_is_number(name) for name in columns):
        raise LayerwiseError(f"{path}: its first line holds a row; write the names of the columns above it.")
    return columns, np.array([_numbers(path, i, columns, row) for i, row in enumerate(rows)]), labels


def _read_npy(path: Path, label: str | None) -> _Content:
    array = _load_array(path, None, dimensions=2)
    if not array.shape[1]:
        raise LayerwiseError(f"{path}: has no columns. {FORMATS}")
    columns = [str(i) for i in range(array.shape[1])]
    place = _label_place(path, columns, label)
    column = columns.pop(place)
    labels = [_class_name(path, i, column, value) for i, value in enumerate(array[:, place])]
    return columns, np.delete(array, place, axis=1), labels


def _read_npz(path: Path, label: str | None) -> _Content:
    if label not in (None, LABELS):
        raise LayerwiseError(
            f"dataset.label={label}: the labels of a .npz file are its array {LABELS}. Leave dataset.label out."
        )
    x, y = _load_array(path, "x", dimensions=2), _load_array(path, LABELS, dimensions=1)
    if len(x) != len(y):
        raise LayerwiseError(f"{path}: x has {len(x)} rows and {LABELS} has {len(y)}. Both need one for each sample.")
    labels = [_class_name(path, i, LABELS, value) for i, value in enumerate(y)]
    return [str(i) for i in range(x.shape[1])], x, labels


def _load_array(path: Path, name: str | None, dimensions: int) -> np.ndarray[Any, Any]:
    """The array of a .npy file, or a named one of a .npz file; nothing in it can run code."""
    try:
        array = _load(path, name)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        problem = str(error.args[0] if isinstance(error, KeyError) else error).rstrip(".")
        if "allow_pickle" in problem:  # what NumPy says of everything that is not its own
            problem = "it holds Python objects, or is no NumPy file"
        raise LayerwiseError(f"{path}: cannot be read ({problem}). {FORMATS}") from error
    kinds = "biuf" if dimensions == 2 else "biufU"  # labels may be names
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise LayerwiseError(
            f"{path}: {name or 'the array'} is {array.dtype} of shape {array.shape}; "
            f"{'numbers or names along one axis' if name == LABELS else 'numbers along two axes'} are needed. {FORMATS}"
        )
    return array


def _load(path: Path, name: str | None) -> np.ndarray[Any, Any]:
    with open(path, "rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray) == (name is None):
            array = loaded if name is None else loaded[name]
            if isinstance(array, np.ndarray):
                return array
            raise ValueError(f"its {name} is no array")
    raise ValueError(f"it has the content of a {'.npy' if isinstance(loaded, np.ndarray) else '.npz'} file")


def _numbers(path: Path, i: int, columns: list[str], row: list[str]) -> list[float]:
    for name, cell in zip(columns, row, strict=True):
        if cell.lower() in MISSING:
            raise LayerwiseError(f"{_cell(path, i, name)}: the value is missing. {REMEDY}")
        if not _is_number(cell):
            raise LayerwiseError(
                f"{_cell(path, i, name)}: '{cell}' is no number. Write the column as numbers, or leave it out."
            )
    return [float(cell) for cell in row]


def _class_name(path: Path, i: int, column: str, cell: Any) -> str:
    """A class as text: `2` for 2.0. Numbers that are not whole are no classes."""
    text = str(cell)
    if text.lower() in MISSING:
        raise LayerwiseError(f"{_cell(path, i, column)}: the label is missing. Fill it in, or leave that row out.")
    if _is_number(text):
        if not float(text).is_integer():
            raise LayerwiseError(
                f"{_cell(path, i, column)}: the label {text} is no class. Labels are whole numbers or names; "
                "name another column with dataset.label."
            )
        return str(int(text) if re.fullmatch("[+-]?[0-9]+", text) else int(float(text)))  # float has 53 bits only
    return text


def _cell(path: Path, i: int, column: str) -> str:
    return f"{path}, row {i + 1}, column '{column}'"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
