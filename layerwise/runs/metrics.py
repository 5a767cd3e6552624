"""The files that are the truth about a run: metrics.jsonl (a line an epoch) and results.json."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path
from typing import IO, Any

from layerwise.core.distributed import in_main
from layerwise.core.errors import writing
from layerwise.core.files import write_atomically

KEPT = "The checkpoints are intact."


class Metrics:
    """metrics.jsonl, which the main process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None  # kept open: to open it takes longer than an epoch of a small network

    @in_main
    def append(self, line: dict[str, Any]) -> None:
        """Adds a line with at least `stage` and `epoch`, both counted from 1."""
        with writing(self.path, KEPT):
            if self._file is None:
                self._file = open(self.path, "a")  # noqa: SIM115 (closed by close)
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Lets the file go."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # each line was flushed; what the disk refused then, it refuses again
                file.close()

    @in_main
    def truncate(self, stage: int, epochs: int) -> None:
        """Drops what is younger than a checkpoint: lines after some epochs of a stage, and a broken last line."""
        self.close()
        kept = []
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if (line["stage"], line["epoch"]) <= (stage, epochs):
                kept.append(text + "\n")
        write_atomically(self.path, "".join(kept), kept=KEPT)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of metrics.jsonl; none where there is no such file."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:  # the machine went down while it was written
            continue
    return lines


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Writes results.json, atomically; a list of numbers takes one line."""
    text = json.dumps(_finite(results), indent=2)
    text = re.sub(r"\[\n([^][{}\"]*?)\n\s*\]", _on_one_line, text)
    write_atomically(path, text + "\n", kept=KEPT)


def validation_top1(results: dict[str, Any]) -> float | None:
    """Validation accuracy in % of the final depth; None without a validation split."""
    final = results["final"]
    row: dict[str, Any] = next((row for row in results["blocks"] if final and row["block"] == final["block"]), {})
    return row["validation"]["top1"] if "validation" in row else None


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def _finite(tree: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
