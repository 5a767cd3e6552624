"""Tables with a column of classes or of real-valued targets: the rows to train on and to test on, and notes on them.

Missing numbers stay NaN here; `factory.load` fills them with the median of the training samples.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from layerwise.core.distributed import say_once
from layerwise.core.errors import LayerwiseError, suggest
from layerwise.core.randomness import key
from layerwise.data.dataset import DatasetSpec
from layerwise.data.reader import InMemory
from layerwise.data.split import test_part
from layerwise.data.table_columns import ENOUGH_ROWS, Column, Kinds, encode
from layerwise.data.table_file import TableFiles, is_number, read_columns

if TYPE_CHECKING:
    import pandas as pd

LABEL_NAMES = {"label", "labels", "class", "target", "y"}
"""How files call the column of the classes, in lower case."""

Samples = tuple[Tensor, Tensor]
"""Features float64 [N, F] with NaN for missing values, and labels int64 [N] or targets float64 [N]."""


@dataclass(frozen=True)
class Table(InMemory):
    """`dataset=table`. What was done to the columns is said on stderr when it is read.

    Args:
        known: the columns of a trained network, by which these files are encoded: other columns are left out, in any
            order. None decides from the training rows what each column holds.

    Raises:
        LayerwiseError: a file that is absent or no table, a column that is neither numbers nor categories, an
            infinite value, no such label column or a guess that may be wrong, labels that are no classes or no numbers,
            columns or classes of the test table that the table does not have, or a test part without rows.
    """

    files: TableFiles
    known: Kinds | None = None

    def spec(self) -> DatasetSpec:
        return _read(self.files, self.known)[0]

    def tensors(self) -> tuple[Samples, Samples]:
        described, train, test = _read(self.files, self.known)
        for note in described.notes:
            say_once(f"{self.files.path}: {note}")
        return train, test


def _read(files: TableFiles, known: Kinds | None) -> tuple[DatasetSpec, Samples, Samples]:
    changed = []
    for option, path in (("dataset.path", files.path), ("dataset.test_path", files.test_path)):
        if path is not None and not path.is_file():
            raise LayerwiseError(f"{option}={path}: there is no such file. Say where it is: {option}=FILE.csv.")
        changed += [(path.stat().st_mtime_ns, path.stat().st_size)] if path is not None else []
    return _read_files(files, tuple(changed), None if known is None else json.dumps(known))


@lru_cache(maxsize=1)
def _read_files(
    files: TableFiles, changed: tuple[tuple[int, int], ...], known: str | None
) -> tuple[DatasetSpec, Samples, Samples]:
    """`changed` makes a file that was rewritten another entry of the cache; `known` is JSON, which it can compare."""
    frame, names = rows_of(files, files.path)
    classes = () if files.regression else classes_of(names)
    labels = _numbers(names, classes)
    rows = held_out = torch.arange(len(labels))
    unlike: list[str] = []
    if files.test_path is None:
        rows, held_out = test_part(labels, files.test, key("table", "test"), str(files.path))
    kinds: Kinds = {} if known is None else json.loads(known)
    if known is not None:
        frame = frame[[name for name in kinds if name in frame]]
    columns = [Column(files.path, frame[name], files) for name in frame]
    if known is None:
        kinds = {column.name: column.categories(rows.numpy()) for column in columns}
    else:
        _check_known(files, columns, kinds, str(names.name))
    features = encode(files.path, frame, kinds, files)
    train, test = ((features[part], labels[part]) for part in (rows, held_out))
    if files.test_path is not None:
        other, others = rows_of(files, files.test_path)
        if known is not None:
            other = other[[name for name in kinds if name in other]]
        _check_test(files, frame, other, set() if files.regression else set(others) - set(classes))
        test = encode(files.test_path, other, kinds, files), _numbers(others, classes)
        unlike = [gap for name in kinds for gap in Column(files.test_path, other[name], files).gaps(kinds[name])]
    described = DatasetSpec("table", (features.shape[1],), classes, (), (), len(train[1]), len(test[1]))
    notes = [note for c in columns for note in (c.notes if known is None else c.gaps)(kinds[c.name])]
    notes += [f"in {files.test_path}, {gap}" for gap in unlike]
    notes += _notes_on_labels(files, names)
    described = replace(
        described, digest=_digest(train, test), columns=kinds, title=files.path.name, notes=tuple(notes)
    )
    return replace(described, target=str(names.name) if files.regression else ""), train, test


def _digest(*parts: Samples) -> str:
    """Of all values and labels as float32, which is all that earlier versions knew, and as they are."""
    content = [[(x.to(dtype).numpy(), y.numpy()) for x, y in parts] for dtype in (torch.float32, torch.float64)]
    return "".join(hashlib.sha256(b"".join(a.tobytes() for xy in one for a in xy)).hexdigest()[:8] for one in content)


def _numbers(names: pd.Series, classes: Sequence[str]) -> Tensor:
    """The numbers int64 [N] of the classes, or without classes the values float64 [N]."""
    if not classes:
        return torch.tensor([float(name) for name in names], dtype=torch.float64)
    number = {name: i for i, name in enumerate(classes)}
    return torch.tensor([number[name] for name in names])


def rows_of(files: TableFiles, path: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Returns the feature columns of a file, and its label column as text.

    Raises:
        LayerwiseError: see `Table`.
    """
    frame = read_columns(files, path)
    label = _label_column(files, path, list(frame))
    names = _labels(files, path, frame.pop(label))
    if label in files.drop:
        raise LayerwiseError(
            f"dataset.drop: '{label}' is the label. Leave it out there, or name another dataset.label."
        )
    if twice := [name for name in files.columns or () if (files.columns or ()).count(name) > 1]:
        raise LayerwiseError(f"dataset.columns: names '{twice[0]}' twice. Leave one out.")
    if files.columns is not None and not set(files.columns) - {label, *files.drop}:
        raise LayerwiseError(
            "dataset.columns: names no column beside the label that is kept. Name one or more, or null."
        )
    for option, name in [("columns", c) for c in files.columns or ()] + [("drop", c) for c in files.drop]:
        if name not in (*frame, label):
            raise LayerwiseError(f"dataset.{option}: {path} has no column '{name}'.{suggest(name, frame.columns)}")
    chosen = list(frame) if files.columns is None else files.columns
    features = frame[[name for name in chosen if name != label and name not in files.drop]]
    if features.empty:
        raise LayerwiseError(
            f"{path}: holds {len(features)} rows and {features.shape[1]} columns beside the label; it needs one of "
            "each or more. Name what separates the cells with dataset.separator."
        )
    if path == files.path:
        _check_labels(f"{path}, column '{label}'", names, files.regression)
    return features, names


def classes_of(names: Iterable[str]) -> tuple[str, ...]:
    """The classes, whole numbers in the order of numbers."""
    whole = all(re.fullmatch("-?[0-9]+", name) for name in names)
    return tuple(sorted(set(names), key=lambda name: (int(name) if whole else 0, name)))


def _label_column(files: TableFiles, path: Path, columns: list[str]) -> str:
    label, last = files.label, columns[-1]
    other = [name for name in columns[:-1] if name.lower() in LABEL_NAMES]
    if label is None and other and last.lower() not in LABEL_NAMES:
        raise LayerwiseError(
            f"{path}: the last column, '{last}', would be taken for the label, but there is a column '{other[0]}'. Say "
            f"which it is: dataset.label={other[0]} or dataset.label={last}."
        )
    if label is not None and label not in columns:
        remedy = " Name what separates the cells with dataset.separator." if len(columns) == 1 else ""
        raise LayerwiseError(f"dataset.label={label}: {path} has no such column.{remedy or suggest(label, columns)}")
    return label or last


def _labels(files: TableFiles, path: Path, column: pd.Series) -> pd.Series:
    """The classes or targets as they are written; of numbers in NumPy files `2` for 2.0."""
    names = column.map(lambda v: str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)).astype(object)
    for i, name in enumerate(names, 1):
        where = f"{path}, row {i}, column '{column.name}'"
        if name.lower() in files.missing_words:
            word = f"the word '{name}' is read as missing" if name else "the label is missing"
            keep = " If it is a class, say which words mean missing: dataset.missing=['',NA]." if name else ""
            raise LayerwiseError(f"{where}: {word}. Fill it in, or leave that row out.{keep}")
        if files.regression and not (is_number(name) and math.isfinite(float(name))):
            raise LayerwiseError(
                f"{where}: '{name}' is no finite number, which dataset.task=regression needs. Leave that row out, or "
                "name another column with dataset.label."
            )
        if not files.regression and is_number(name) and not float(name).is_integer():
            raise LayerwiseError(
                f"{where}: the label {name} is no class but a quantity. Use dataset.task=regression to predict it, or "
                "name another column with dataset.label."
            )
    return names


def _check_labels(where: str, names: pd.Series, regression: bool) -> None:
    """Refuses a label column from which nothing can be learnt."""
    remedy, n = "Name the column that holds the labels with dataset.label", len(names)
    alone = int((names.value_counts() == 1).sum())
    if names.nunique() == 1:
        raise LayerwiseError(f"{where}: all rows have the label '{names[0]}'; there is nothing to predict. {remedy}.")
    if 2 * alone > n >= ENOUGH_ROWS and not regression:
        quantity = ", or predict a quantity with dataset.task=regression" if all(map(is_number, names)) else ""
        raise LayerwiseError(
            f"{where}: {alone} of the {n} rows have a label of their own, so that nothing can be learnt from one for "
            f"another. {remedy}{quantity}."
        )


def _notes_on_labels(files: TableFiles, names: pd.Series) -> list[str]:
    """What a user should know of the label column."""
    notes, counts = [], names.value_counts()
    if files.label is None and files.path.suffix.lower() != ".npz":
        notes.append(f"the label is the last column, '{names.name}'; dataset.label names another")
    if files.test_path is None and not files.regression and (single := sorted(counts.index[counts == 1])):
        some = ", ".join(single[:5]) + ", …" * (len(single) > 5)
        notes.append(f"warning: classes of a single row, which is trained on or tested on but not both: {some}")
    return notes


def _check_known(files: TableFiles, columns: Sequence[Column], kinds: Kinds, label: str) -> None:
    """Refuses a table whose label or columns cannot be those of a trained network."""
    if label in kinds:
        raise LayerwiseError(
            f"{files.path}: '{label}' is taken for the label, and the run was trained on it as a feature. Say which "
            "column is the label: dataset.label=NAME."
        )
    for column in columns:
        texts = kinds[column.name]
        if texts is not None and not column.text.any() and not column.lacking.all():
            raise LayerwiseError(
                f"{files.path}, column '{column.name}': holds numbers, and the run was trained on the texts "
                f"{', '.join(map(repr, texts[:5]))}{', …' * (len(texts) > 5)}. Write these."
            )


def _check_test(files: TableFiles, frame: pd.DataFrame, other: pd.DataFrame, new: set[str]) -> None:
    """Refuses a test table with other columns than the table, or with new classes."""
    missing, unknown = [c for c in frame if c not in other], [c for c in other if c not in frame]
    if missing or unknown:
        raise LayerwiseError(
            f"{files.test_path}: its columns are not those of {files.path}: missing {missing or 'none'}, unknown "
            f"{unknown or 'none'}. Give both the same columns."
        )
    if new:
        raise LayerwiseError(
            f"{files.test_path}: class '{min(new)}' does not occur in {files.path}. Leave its rows out, or add "
            "some to train on."
        )
