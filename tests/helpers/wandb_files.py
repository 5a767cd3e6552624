"""Reads what W&B has written offline, without the network."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32768
"""Bytes of a block of the file, a LevelDB log behind a header."""

HEADER, CHUNK = struct.Struct("<4sHB"), struct.Struct("<IHB")
WHOLE, FIRST, LAST = 1, 2, 4
"""Kinds of chunks; the rest lie between the first and the last of a record."""


@dataclass
class OfflineRun:
    """What one `.wandb` file holds.

    Attributes:
        run: id, project, group, job_type, name and tags.
        rows: of the history.
        metrics: by name or pattern, how W&B summarises it.
        exit_code: None if the run was not finished.
    """

    folder: Path
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows if name in row]

    def table(self, name: str) -> dict[str, Any]:
        (entry,) = self.column(name)
        content: dict[str, Any] = json.loads((self.folder / "files" / entry["path"]).read_text())
        return content


def offline_runs(run_folder: Path) -> list[OfflineRun]:
    """The W&B runs in a run folder, the oldest first."""
    return [read(path) for path in sorted((run_folder / "wandb").glob("offline-run-*/run-*.wandb"))]


def read(path: Path) -> OfflineRun:
    from wandb.proto import wandb_internal_pb2

    found = OfflineRun(path.parent)
    for content in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.run = {"id": run.run_id, "project": run.project, "group": run.run_group, "job_type": run.job_type}
            found.run |= {"name": run.display_name, "tags": list(run.tags)}
            update(found.config, run.config.update)
        elif kind == "config":
            update(found.config, record.config.update)
        elif kind == "history":
            found.rows.append({})
            update(found.rows[-1], record.history.item)
        elif kind == "summary":
            update(found.summary, record.summary.update)
        elif kind == "metric":
            metric = record.metric
            found.metrics[metric.name or metric.glob_name] = [f.name for f, on in metric.summary.ListFields() if on]
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
        elif kind == "artifact":
            found.artifacts.append(record.artifact.name)
        elif kind == "request" and record.request.HasField("log_artifact"):
            found.artifacts.append(record.request.log_artifact.artifact.name)
    return found


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file, as far as they are whole."""
    assert HEADER.unpack(content[: HEADER.size])[:2] == (b":W&B", 0xBEE1)
    at, record = HEADER.size, b""
    while at + CHUNK.size <= len(content):
        left = BLOCK - at % BLOCK
        checksum, size, kind = CHUNK.unpack(content[at : at + CHUNK.size])
        if left < CHUNK.size or kind == 0:  # padding
            at += left
            continue
        data = content[at + CHUNK.size : at + CHUNK.size + size]
        if len(data) < size:
            return
        assert zlib.crc32(data, zlib.crc32(bytes([kind]))) == checksum
        at += CHUNK.size + size
        record = data if kind in (WHOLE, FIRST) else record + data
        if kind in (WHOLE, LAST):
            yield record


def update(tree: dict[str, Any], items: Any) -> None:
    for item in items:
        *within, name = list(item.nested_key) or [item.key]
        place = tree
        for outer in within:
            place = place.setdefault(outer, {})
        place[name] = json.loads(item.value_json)
