"""What a run has left in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layerwise.runs.metrics import finite, write_results
from layerwise.runs.run_files import RESULTS, sealed


def only_run(tmp_path: Path) -> Path:
    """The one run folder that was made."""
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def rewrite_results(folder: Path, results: dict[str, Any]) -> None:
    """Writes other results into a run folder, as a run with these results would."""
    write_results(folder / RESULTS, sealed(finite(results)))


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one for each epoch."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of results.json without what depends on the clock or the machine."""
    timed = ("seconds", "images_per_second", "peak_memory_mb", "memory_mb")
    return [{name: value for name, value in row.items() if name not in timed} for row in results["blocks"]]


def corrupt(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[-1] ^= 1
        path.write_bytes(content)
