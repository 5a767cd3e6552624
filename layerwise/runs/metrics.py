"""The files that are the truth about a run: metrics.jsonl (a line per epoch) and results.json."""

from __future__ import annotations

import contextlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from layerwise.core.distributed import in_main
from layerwise.core.errors import LayerwiseError, writing
from layerwise.core.files import write_atomically
from layerwise.core.measures import quality
from layerwise.runs.origin import Origin
from layerwise.runs.run_files import missing, read_text
from layerwise.training.plan import Stage
from layerwise.training.reports import EpochReport

KEPT = "The checkpoints are intact."

LINE_FIELDS: dict[str, type | tuple[type, ...]] = {
    "stage": int,
    "epoch": int,
    "step": int,
    "block": int,
    "loss": (int, float, type(None)),
    "lr": (int, float),
    "seconds": (int, float),
    "images_per_second": (int, float),
}


class Metrics:
    """metrics.jsonl, which the main process writes.

    Args:
        path: the file.
        origin: the run that its lines belong to.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self.path, self.origin = path, origin
        self._file: IO[str] | None = None  # kept open: to open it takes longer than an epoch of a small network

    @in_main
    def append(self, line: dict[str, Any]) -> None:
        """Adds a line with at least `stage` and `epoch`, both counted from 1."""
        marked = line | {"run": self.origin.digest}
        with writing(self.path, KEPT):
            if self._file is None:
                self._file = open(self.path, "a")  # noqa: SIM115 (closed by close)
            self._file.write(json.dumps(marked | {"check": _check(marked)}) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # each line was flushed; what the disk refused then, it refuses again
                file.close()

    @in_main
    def truncate(self, stage: int, epochs: int) -> str | None:
        """Drops what is younger than a checkpoint, lines after some epochs of a stage, and damaged lines.

        Args:
            stage: the stage in training, counted from 1.
            epochs: its epochs so far.

        Returns:
            What is lost of these epochs, in words, or None.

        Raises:
            LayerwiseError: lines are of another run, or the file cannot be read or written.
        """
        self.close()
        lines = [
            line for line in read_lines(self.path, self.origin) if (line["stage"], line["epoch"]) <= (stage, epochs)
        ]
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in lines), KEPT, makes_folder=False)
        return lost_epochs(self.path, lines, {stage: epochs})


def metrics_line(stage: Stage, report: EpochReport, step: int) -> dict[str, Any]:
    """Returns the line of metrics.jsonl for an epoch: the values of the last head, of each of several heads, and norms.

    `trained` are the first and the last block that the stage trains; there are none if the first is greater.

    Args:
        step: steps of the whole run up to the epoch's end.
    """
    heads: list[dict[str, Any]] = [
        {"block": depth, **scores} for depth, scores in zip(stage.depths, report.scores, strict=True)
    ]
    line: dict[str, Any] = {
        "stage": stage.index + 1,
        "target": stage.target,
        "trained": [stage.start + 1, stage.stop],
        "epoch": report.epoch + 1,
        "step": step,
        **heads[-1],
        "lr": report.lr,
        "seconds": report.seconds,
        "images_per_second": report.images_per_second,
    }
    line |= {"gradients": report.gradients} if report.gradients else {}
    return line | ({"heads": heads} if len(heads) > 1 else {})


def read_lines(path: Path, origin: Origin | None = None) -> list[dict[str, Any]]:
    """Reads the undamaged lines of metrics.jsonl; there are none without a file.

    Args:
        path: the file.
        origin: the run whose lines they must be, if that is to be verified.

    Raises:
        DamagedRunFile: it is a folder.
        LayerwiseError: lines are of another run, or it cannot be opened.
    """
    text = read_text(path, "Only the curves of the training are in it.", errors="replace") or ""
    lines = [line for line in map(parse_line, text.splitlines()) if line is not None]
    if origin is not None:
        check_lines(path, lines, origin)
    return lines


def check_lines(path: Path, lines: Iterable[Mapping[str, Any]], origin: Origin) -> None:
    """Refuses lines of another run.

    Args:
        path: the file.
        origin: of the run. It knows the marks of earlier versions from the checkpoints that have been read.

    Raises:
        LayerwiseError: names the first such line.
    """
    for line in lines:
        if line.get("run", origin.digest) not in origin.digests:
            raise LayerwiseError(
                f"{path} holds lines of another run (stage {line['stage']}, epoch {line['epoch']}). Put this run's own "
                "file back, or delete this one: only the curves of the training are in it."
            )


def lost_epochs(path: Path, lines: Iterable[Mapping[str, Any]], epochs: Mapping[int, int]) -> str | None:
    """Says which epochs have no line in metrics.jsonl.

    Args:
        path: the file.
        lines: its undamaged lines.
        epochs: by stage, counted from 1, the number of epochs that were trained.
    """
    found = {(line["stage"], line["epoch"]) for line in lines}
    lost = [(stage, e) for stage, count in epochs.items() for e in range(1, count + 1) if (stage, e) not in found]
    if not lost:
        return None
    words = ", ".join(f"stage {stage} epoch {epoch}" for stage, epoch in lost[:3])
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return f"{path}: lines are missing or damaged ({words}{more}). The curves have gaps; the results are not affected."


def parse_line(text: str) -> dict[str, Any] | None:
    """Reads a line of metrics.jsonl; returns None of a damaged one."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # the machine went down while it was written
        return None
    if missing(line, LINE_FIELDS) or ("check" in line and line["check"] != _check(line)):
        return None
    return line  # type: ignore[no-any-return]


def _check(line: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps({name: value for name, value in line.items() if name != "check"}).encode())


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Writes a JSON file such as results.json, atomically; a list of numbers takes one line."""
    text = json.dumps(finite(results), indent=2)
    text = re.sub(r"\[\n([^][{}\"]*?)\n\s*\]", _on_one_line, text)
    write_atomically(path, text + "\n", KEPT, makes_folder=False)


def validation_quality(results: dict[str, Any]) -> float | None:
    """Validation accuracy in %, or R², of the final depth; None without a validation split."""
    final = results["final"]
    row: dict[str, Any] = next((row for row in results["blocks"] if final and row["block"] == final["block"]), {})
    return quality(row["validation"]) if "validation" in row else None


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def finite(tree: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(tree, dict):
        return {name: finite(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
