"""`dataset=table`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layerwise.config.datasets.base import DatasetConfig
from layerwise.config.outside import Outside
from layerwise.core.errors import LayerwiseError
from layerwise.data.choices import Task

if TYPE_CHECKING:  # torch
    from layerwise.data.table import Table
    from layerwise.data.table_file import TableFiles


@dataclass
class TableConfig(DatasetConfig):
    """The keys of conf/dataset/table.yaml."""

    path: str | None = None
    task: Task = Task.classification
    label: str | None = None
    test_path: str | None = None
    test: float = 0.2
    separator: str | None = None
    columns: list[str] | None = None
    drop: list[str] = field(default_factory=list)
    missing: list[str] | None = None

    def reader(self, function: Outside | None) -> Table:
        from layerwise.data.table import Table  # loads torch

        return Table(self.files)

    @property
    def files(self) -> TableFiles:
        """The files, and which of their columns.

        Raises:
            LayerwiseError: none is named.
        """
        from layerwise.data.table_file import TableFiles

        if self.path is None:
            raise LayerwiseError("dataset=table: say which file: dataset.path=FILE.csv (or .npy, .npz).")
        return TableFiles(
            Path(self.path),
            self.label,
            None if self.test_path is None else Path(self.test_path),
            self.test,
            self.separator,
            None if self.columns is None else tuple(self.columns),
            tuple(self.drop),
            None if self.missing is None else tuple(self.missing),
            self.regression,
        )

    @property
    def regression(self) -> bool:
        return self.task is Task.regression
