"""Tables with a column of classes: which rows are trained on and tested on, and what a user should know of them.

Missing numbers stay NaN here; `factory.load` fills them with the median of the training samples.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core import distributed
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key
from layerwise.data.dataset import DatasetSpec
from layerwise.data.split import test_part
from layerwise.data.table_columns import Kinds, cells_of, column_kinds, encode, numbers_of
from layerwise.data.table_file import Table, TableFiles, read_table

ENOUGH_ROWS = 10
"""In shorter tables a counter or a column of unique values may be chance."""


def spec(files: TableFiles) -> DatasetSpec:
    """Returns shape and classes of a table, and the kinds of its columns.

    Raises:
        LayerwiseError: see `read`.
    """
    (train, _), (test, _), kinds = splits = _read(files)
    digest = hashlib.sha256()
    for values, labels in splits[:2]:
        digest.update(values.float().numpy().tobytes())
        digest.update(labels.numpy().tobytes())
    return DatasetSpec(
        name="table",
        shape=(train.shape[1],),
        classes=read_table(files, files.path).classes,
        mean=(),
        std=(),
        train_samples=len(train),
        test_samples=len(test),
        digest=digest.hexdigest()[:8],
        columns=kinds,
        title=files.path.stem,
    )


def read(files: TableFiles) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns (features float64 [N, F] with NaN for missing values, labels int64 [N]) of train and of test.

    Says on stderr what was done to the columns.

    Raises:
        LayerwiseError: a file that is absent or no table, a column that is neither numbers nor categories, an
            infinite value, no such label column or a guess that may be wrong, labels that are no classes, columns or
            classes of the test table that the table does not have, or a test part without rows.
    """
    train, test, kinds = _read(files)
    for note in _notes(read_table(files, files.path), kinds, files):
        say_once(f"{files.path}: {note}")
    return train, test


def _read(files: TableFiles) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Kinds]:
    table = read_table(files, files.path)
    number = {name: i for i, name in enumerate(table.classes)}
    _check_labels(table)
    labels = torch.tensor([number[name] for name in table.labels])
    if files.test_path is None:
        train, test = test_part(labels, files.test, key("table", "test"), str(files.path))
        kinds = column_kinds(table, files, train.numpy())
        values = encode(table.path, table.frame, kinds, files)
        return (values[train], labels[train]), (values[test], labels[test]), kinds
    other = read_table(files, files.test_path, option="dataset.test_path")
    missing, unknown = (
        [c for c in a if c not in b] for a, b in ((table.frame, other.frame), (other.frame, table.frame))
    )
    if missing or unknown:
        raise LayerwiseError(
            f"{files.test_path}: its columns are not those of {files.path}: missing {missing or 'none'}, unknown "
            f"{unknown or 'none'}. Give both the same columns."
        )
    if new := set(other.labels) - set(number):
        raise LayerwiseError(
            f"{files.test_path}: class '{min(new)}' does not occur in {files.path}. Leave its rows out, or add "
            "some to train on."
        )
    kinds = column_kinds(table, files, np.arange(len(labels)))
    train_values, test_values = (encode(part.path, part.frame, kinds, files) for part in (table, other))
    return (train_values, labels), (test_values, torch.tensor([number[name] for name in other.labels])), kinds


def _check_labels(table: Table) -> None:
    classes, counts = table.classes, Counter(table.labels)
    where = f"{table.path}, column '{table.label}'"
    if len(classes) < 2:
        raise LayerwiseError(
            f"{where}: all rows are of class '{classes[0]}'; there is nothing to classify. "
            "Name the column that holds the classes with dataset.label."
        )
    if len(counts) == len(table.labels) >= ENOUGH_ROWS:
        raise LayerwiseError(
            f"{where}: each of the {len(counts)} rows has a label of its own, so that nothing can be learnt from one "
            "for another. Name the column that holds the classes with dataset.label."
        )


def _notes(table: Table, kinds: Kinds, files: TableFiles) -> list[str]:
    """What a user should know of the columns."""
    notes = []
    for name, categories in kinds.items():
        cells, lacking = cells_of(table.frame[name], files)
        if categories is not None:
            unit = "categories, of which one is for missing values" if "" in categories else "categories"
            notes.append(f"column '{name}' is text; it became one-hot: {len(categories)} {unit}")
        elif lacking.any():
            notes.append(f"column '{name}' lacks {lacking.sum()} values; they get the median of the training samples")
        if words := sorted({cell for cell in cells[lacking] if cell}):
            notes.append(
                f"column '{name}': {', '.join(words)} is read as missing; dataset.missing says which words are"
            )
        if categories is None and not lacking.any() and _counts_rows(numbers_of(cells)):
            notes.append(
                f"warning: column '{name}' counts the rows in file order, which may give the label away. If it is an "
                f"index, leave it out: dataset.drop=[{name}]"
            )
    return notes


def _counts_rows(values: NDArray[np.float64]) -> bool:
    return len(values) >= ENOUGH_ROWS and bool((np.diff(values) == 1).all())


@lru_cache(maxsize=256)
def say_once(message: str) -> None:
    """Prints to stderr in the main process what was not printed before."""
    if distributed.is_main():
        print(message, file=sys.stderr)
