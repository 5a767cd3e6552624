"""The runs below a folder: configuration, status and results of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.config.identity import identity
from layerwise.config.kinds import differs
from layerwise.config.parse import from_yaml
from layerwise.core.errors import LayerwiseError
from layerwise.core.measures import ACCURACY, measure_of
from layerwise.runs import run_files
from layerwise.runs.folder import in_use
from layerwise.runs.metrics import validation_quality
from layerwise.runs.origin import origin_of
from layerwise.runs.run_files import CONFIG, LOCK, RESULTS

COMPLETED, RUNNING, STOPPED, DAMAGED = "completed", "running", "stopped", "damaged"
NOT_BEGUN = "not begun to report"

MEANING = {
    RUNNING: "a process works on it",
    STOPPED: "its process ended without a message; the same command continues",
    "interrupted": "the same command continues",
    NOT_BEGUN: "it ended before its first stage was finished; the same command continues",
}
"""The reason to print for a status if results.json has none."""


@dataclass(frozen=True)
class Collected:
    """A run.

    Attributes:
        status: that of results.json; "running" if a process works in the folder, "stopped" if results.json says
            "running" but none does, "damaged" if a file cannot be read, or "not begun to report".
        config: configuration by dotted key, without keys that say only where it runs.
        figures: depth, accuracies or R² and MAE, parameters and seconds, as far as known.
        error: why it failed, or which file is damaged.
    """

    folder: Path
    status: str
    config: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def run_folders(top: Path) -> Iterator[Path]:
    """The run folders below a folder, or the folder itself.

    Not those inside of runs, such as a depth search, nor hidden folders: Hydra's `.hydra` has a config.yaml as well.
    """
    for path, folders, files in os.walk(top):
        if {CONFIG, RESULTS, LOCK} & set(files):
            folders.clear()
            yield Path(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def runs_below(tops: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """The run folders below some folders, each after the folder below which it was found.

    Raises:
        LayerwiseError: a folder is absent, or holds no run.
    """
    for top in tops:
        if not top.is_dir():
            raise LayerwiseError(f"{top}: no such folder.")
        folders = list(run_folders(top))
        if not folders:
            raise LayerwiseError(f"{top}: holds no runs. Give the output_dir of a sweep, or the folder of a run.")
        yield from ((top, folder) for folder in folders)


def differing_keys(runs: Iterable[Collected]) -> list[str]:
    """The keys in which the runs differ, in the order of the configuration."""
    configs = [run.config for run in runs if run.config]
    return [key for key in dict.fromkeys(key for config in configs for key in config) if differs(key, configs)]


def read_run(folder: Path) -> Collected:
    """Reads a run folder in any state."""
    config: dict[str, Any] = {}
    try:
        if (folder / CONFIG).exists() or (folder / RESULTS).exists():
            config = identity(from_yaml(folder / CONFIG))
        if not (folder / RESULTS).exists():
            return Collected(folder, RUNNING if in_use(folder) else NOT_BEGUN, config)
        results, figures = read_results(folder / RESULTS)
        origin_of(folder).check(folder / RESULTS, results.get("origin"))
    except LayerwiseError as error:
        return Collected(folder, DAMAGED, config, error=str(error))
    status, reason = results["status"], results.get("error")
    if status != COMPLETED and in_use(folder):  # also an interrupted or failed run that is being continued
        status, reason = RUNNING, None
    elif status == RUNNING:
        status = STOPPED
    return Collected(folder, status, config, figures, reason)


def read_results(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Reads results.json and picks its figures.

    Raises:
        LayerwiseError: damaged.
    """
    results = run_files.read_results(path)
    if results is None:
        raise LayerwiseError(f"{path}: there is no such file.")
    final = results["final"] or {}
    measure = measure_of(final, "test_") or ACCURACY
    figures = {
        "depth": final.get("block"),
        f"test {measure.unit}": final.get(f"test_{measure.name}"),
        f"ensemble {measure.unit}": final.get(f"ensemble_{measure.name}"),
        f"validation {measure.unit}": validation_quality(results),
        "test MAE": final.get("test_mae"),
        "parameters": final.get("parameters"),
        "seconds": results["seconds"],
    }
    return results, {name: value for name, value in figures.items() if value is not None}
