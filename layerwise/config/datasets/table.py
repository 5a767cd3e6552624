"""`dataset=table`."""

from __future__ import annotations

from dataclasses import dataclass, field

from layerwise.config.datasets.base import DatasetConfig
from layerwise.data.choices import Task


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

    @property
    def regression(self) -> bool:
        return self.task is Task.regression
