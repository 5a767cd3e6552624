"""The results of many runs as one pandas frame."""

from __future__ import annotations

import glob
import warnings
from pathlib import Path
from typing import Any

import pandas

from layerwise.analysis.collecting import DAMAGED, Collected, differing_keys, read_run, run_folders
from layerwise.core.errors import LayerwiseError
from layerwise.runs.run_files import RESULTS
from layerwise.runs.run_files import read_results as read_file

FACTS = ("seed", "dataset", "model", "plan", "k", "J")
"""Keys of results.json that stand in each row."""

SAID = {*FACTS, "dataset.name", "model.name", "plan.name"}
"""Keys of the configuration that they tell."""


def results(*patterns: str | Path) -> pandas.DataFrame:
    """Returns a row for each finished depth of each run.

    Columns: `run` and `folder`; `status`; `seed`, `dataset`, `model`, `plan`, `k`, `J`; the configuration keys in which
    the runs differ, by their dotted names; `depth`; whether it `is_final`, the depth of the run's result; and all
    figures of results.json at that depth, such as `test_top1`, `ensemble_top1`, `parameters_block` and `seconds_train`.
    What a run does not have is NaN. A run without a finished depth has no row; of those that cannot be read a warning
    tells.

    Args:
        patterns: folders of runs, or folders with runs below them; `*` stands for any name.

    Raises:
        LayerwiseError: a pattern finds no run.
    """
    folders: dict[Path, Path] = {}
    for pattern in patterns:
        exact = Path(pattern).is_dir()  # also with a bracket in its name
        found = [pattern] if exact else sorted(glob.glob(str(pattern)))  # noqa: PTH207 (Path.glob: no absolute pattern)
        tops = [path for path in map(Path, found) if path.is_dir()]
        below = [folder for top in tops for folder in run_folders(top)]
        if not below:
            raise LayerwiseError(f"{pattern}: holds no runs. Give the output_dir of a sweep, or the folder of a run.")
        folders |= {folder.resolve(): folder for folder in below}
    runs = [read_run(folder) for folder in folders.values()]
    for run in (run for run in runs if run.status == DAMAGED):
        warnings.warn(f"a run is left out: {run.error}", stacklevel=2)
    readable = [run for run in runs if run.status != DAMAGED]
    keys = [key for key in differing_keys(readable) if key not in SAID]
    return pandas.DataFrame([row for run in readable for row in _rows(run, keys)])


def _rows(run: Collected, keys: list[str]) -> list[dict[str, Any]]:
    found = read_file(run.folder / RESULTS) or {"blocks": []}
    facts = {"run": found.get("name"), "folder": str(run.folder), "status": run.status}
    facts |= {name: found.get(name) for name in FACTS} | {key: run.config.get(key) for key in keys}
    final = (found.get("final") or {}).get("block")
    return [
        facts
        | {"depth": row["block"], "is_final": row["block"] == final}
        | _flat({**row, "block": None, "before": None})
        for row in found["blocks"]
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures as one dictionary, by names joined with `_`; without those that are None."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}_")
        elif value is not None:
            found[prefix + name] = value
    return found
