"""Follows runs by their files: it reads them as they grow, takes no lock and writes nothing."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.analysis.collecting import run_folders
from layerwise.config.build import build_agenda
from layerwise.core.errors import LayerwiseError
from layerwise.core.measures import measure_of
from layerwise.runs.depth_search import run_config
from layerwise.runs.metrics import parse_line
from layerwise.runs.run_files import CONFIG, METRICS, REPORT, RESULTS, read_results

SECONDS_BETWEEN_SEARCHES = 10.0
"""For run folders that are new."""

QUIET_AFTER = 600.0
"""Seconds without a new line after which a running run is said to be quiet."""

Stamp = tuple[int, int, int] | None
"""Inode, size and time of a file; None without one."""


@dataclass
class WatchedRun:
    """A run as its files show it.

    Attributes:
        epochs: planned, by stage; empty where the configuration does not tell.
        lines: of metrics.jsonl, those that are whole.
        error: why a file cannot be read.
    """

    folder: Path
    epochs: list[int] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    changed: float = 0.0
    _stamps: dict[str, Stamp] = field(default_factory=dict)
    _offset: int = 0

    @property
    def id(self) -> str:
        return hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]

    @property
    def name(self) -> str:
        return str(self.results.get("name", self.folder.name))

    @property
    def status(self) -> str:
        if self.error is not None:
            return "unreadable"
        return str(self.results.get("status", "running" if self.lines else "begun"))

    @property
    def is_quiet(self) -> bool:
        """Whether it should run, but has written nothing for a while: its process may have ended."""
        return self.status in ("running", "begun") and time.time() - self.changed > QUIET_AFTER

    @property
    def progress(self) -> float | None:
        """Part of the planned epochs that is done."""
        if self.status == "completed":
            return 1.0
        done = sum(self.epochs[: self.lines[-1]["stage"] - 1]) + self.lines[-1]["epoch"] if self.lines else 0
        return min(1.0, done / sum(self.epochs)) if sum(self.epochs) else None

    @property
    def seconds_left(self) -> float | None:
        """Of training, if the epochs to come take as long as the last one."""
        if self.progress in (None, 1.0) or not self.lines or self.status != "running":
            return None
        return float(self.lines[-1]["seconds"]) * (1 - self.progress) * sum(self.epochs)

    @property
    def place(self) -> str:
        """`block 2, epoch 3 of 50`."""
        if not self.lines or self.status == "completed":
            return ""
        stage, epoch = self.lines[-1]["stage"], self.lines[-1]["epoch"]
        known = stage <= len(self.epochs)
        title = self.titles[stage - 1] if known else f"stage {stage}"
        return f"{title}, epoch {epoch}" + (f" of {self.epochs[stage - 1]}" if known else "")

    @property
    def quality(self) -> str | None:
        """On the test set, of the last depth that is finished."""
        final = self.results.get("final") or {}
        measure = measure_of(final, "test_")
        return None if measure is None else measure.told(final[f"test_{measure.name}"])

    @property
    def has_report(self) -> bool:
        return report_of(self.folder) is not None

    def refresh(self) -> None:
        """Reads what has changed since the last call."""
        try:
            if self._is_new(CONFIG):
                self._plan()
            if self._is_new(METRICS):
                self._follow()
            if self._is_new(RESULTS):
                self.results = read_results(self.folder / RESULTS) or {}
            self.error = None
        except (LayerwiseError, OSError) as error:
            self.error = str(error)

    def _is_new(self, name: str) -> bool:
        """Whether a file changed; one that could not be read is new as long as that is so."""
        try:
            found = (self.folder / name).stat()
            stamp: Stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            self.changed = max(self.changed, found.st_mtime)
        except FileNotFoundError:
            stamp = None
        is_new = self.error is not None or stamp != self._stamps.get(name)
        self._stamps[name] = stamp
        return is_new

    def _plan(self) -> None:
        try:
            stages = build_agenda(run_config(self.folder)).stages()
        except LayerwiseError:  # of another version, or a search for the depth goes on
            stages = []
        self.epochs, self.titles = [stage.epochs for stage in stages], [stage.title for stage in stages]

    def _follow(self) -> None:
        """Reads the new lines of metrics.jsonl, or all if it has become shorter: a resumed run drops lines."""
        try:
            with open(self.folder / METRICS, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset, self.lines = 0, []
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        lines = [parse_line(line) for line in whole.decode(errors="replace").splitlines()]
        self.lines += [line for line in lines if line is not None]


class Watch:
    """The runs below some folders, also those that begin later."""

    def __init__(self, tops: Sequence[Path]) -> None:
        self._tops, self._searched = tops, -float("inf")
        self._runs: dict[Path, WatchedRun] = {}

    def refresh(self) -> list[WatchedRun]:
        """Returns the runs as their files are now; those that changed last come first."""
        if time.monotonic() - self._searched > SECONDS_BETWEEN_SEARCHES:
            folders = dict.fromkeys(folder for top in self._tops for folder in run_folders(top))
            self._runs = {folder: self._runs.get(folder) or WatchedRun(folder) for folder in folders}
            self._searched = time.monotonic()
        for run in self._runs.values():
            run.refresh()
        return sorted(self._runs.values(), key=lambda run: (run.status == "completed", -run.changed, run.name))


def report_of(folder: Path) -> Path | None:
    """Returns the report of a run, if it is a file of the folder and no link that leads elsewhere."""
    path = folder / REPORT
    return path if path.is_file() and not path.is_symlink() else None
