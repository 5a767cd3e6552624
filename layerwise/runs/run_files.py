"""The JSON files of a run folder: the one way in which every command reads them.

Those that the program writes whole carry a checksum; those of earlier versions have none and are read without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec

CONFIG, SPEC, METRICS, RESULTS = "config.yaml", "dataset.json", "metrics.jsonl", "results.json"
SAMPLES, PRETRAINED, CODE = "data.txt.gz", "pretrained.safetensors", "code.json"
REPORT, COMMAND = "report.html", "command.txt"
CHECKPOINTS, CACHE, SEARCH, LOCK = "checkpoints", "cache", "search", ".lock"

AGAIN = "Run the command of this run again: it writes the file anew."
CHECKSUM = "checksum"


class DamagedRunFile(LayerwiseError):
    """A file of a run folder is not what the program wrote."""


def checksum(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of JSON values but their own checksum, in hexadecimal."""
    kept = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Returns JSON values with their checksum."""
    return content | {CHECKSUM: checksum(json.loads(json.dumps(content)))}


def read_text(path: Path, remedy: str = AGAIN, errors: str = "strict") -> str | None:
    """Reads a text file; returns None if there is none.

    Args:
        path: file to read.
        remedy: sentence for the error message.
        errors: what is done about bytes that are no UTF-8, as in `open`.

    Raises:
        DamagedRunFile: it is a folder, or no text.
        LayerwiseError: it cannot be opened.
    """
    try:
        return path.read_text(encoding="utf-8", errors=errors)
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise DamagedRunFile(f"{path} is a folder and not a file. Remove it. {remedy}") from error
    except UnicodeDecodeError as error:
        raise DamagedRunFile(f"{path} is damaged (byte {error.start} is not UTF-8). {remedy}") from error
    except OSError as error:
        raise LayerwiseError(f"{path}: cannot be read: {error.strerror or error}.") from error


def read_object(path: Path, remedy: str = AGAIN) -> dict[str, Any] | None:
    """Reads a JSON object and verifies its checksum; returns None if there is no such file.

    Raises:
        DamagedRunFile: it is no JSON object, or was altered.
        LayerwiseError: it cannot be opened.
    """
    text = read_text(path, remedy)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedRunFile(f"{path} is damaged ({error}). {remedy}") from error
    if not isinstance(content, dict):
        raise DamagedRunFile(f"{path} is damaged (it holds no JSON object). {remedy}")
    if CHECKSUM in content and content[CHECKSUM] != checksum(content):
        raise DamagedRunFile(f"{path} is damaged (its checksum does not match). {remedy}")
    content.pop(CHECKSUM, None)
    return content


def read_spec(path: Path) -> DatasetSpec | None:
    """Reads dataset.json; returns None if there is none.

    Raises:
        DamagedRunFile: a field is missing or has another type.
        LayerwiseError: it cannot be opened.
    """
    content = read_object(path)
    if content is None:
        return None
    try:
        spec = DatasetSpec.from_json(json.dumps(content))
    except TypeError as error:
        raise DamagedRunFile(f"{path} is damaged ({str(error).removeprefix('DatasetSpec.')}). {AGAIN}") from error
    wanted: dict[str, type | tuple[type, ...]] = {
        "shape": int,
        "classes": str,
        "mean": (int, float),
        "fill": (int, float),
    }
    wanted |= dict.fromkeys(("std", "target_scale"), wanted["mean"])
    wrong = [
        name
        for name, kind in wanted.items()
        if not isinstance(values := getattr(spec, name), tuple) or not all(isinstance(value, kind) for value in values)
    ]
    wrong += [name for name in ("train_samples", "test_samples", "padding") if not isinstance(getattr(spec, name), int)]
    wrong += [name for name in ("name", "digest", "title", "target") if not isinstance(getattr(spec, name), str)]
    if wrong or not isinstance(spec.columns, dict | None) or not spec.shape or not (spec.classes or spec.target):
        raise DamagedRunFile(f"{path} is damaged ({(wrong or ['a field'])[0]} has a wrong value). {AGAIN}")
    return spec


def read_results(path: Path) -> dict[str, Any] | None:
    """Reads results.json; returns None if there is none.

    Raises:
        DamagedRunFile: a field is missing or has another type.
        LayerwiseError: it cannot be opened.
    """
    results = read_object(path)
    if results is None:
        return None
    wrong = [
        *(name for name, kind in RESULTS_FIELDS.items() if not isinstance(results.get(name), kind)),
        *(f"final.{name}" for name in missing(results.get("final") or {"block": 0}, {"block": int})),
    ]
    for row in results["blocks"] if isinstance(results.get("blocks"), list) else []:
        wrong += [f"blocks.{name}" for name in missing(row, ROW_FIELDS)]
    if wrong:
        raise DamagedRunFile(f"{path} is damaged ({wrong[0]} is missing or has a wrong value). {AGAIN}")
    return results


ENDED_EARLY = "ended early"
"""The `status` in results.json of a trial that a search has given up."""

RESULTS_FIELDS: dict[str, type | tuple[type, ...]] = {
    "status": str,
    "blocks": list,
    "final": (dict, type(None)),
    "seconds": (int, float),
}
ROW_FIELDS: dict[str, type | tuple[type, ...]] = {"block": int, "parameters": dict, "seconds": dict}


def missing(entry: Any, fields: Mapping[str, type | tuple[type, ...]]) -> list[str]:
    """Returns the names of fields that a JSON value lacks, or that have another type."""
    if not isinstance(entry, dict):
        return list(fields)
    return [name for name, kind in fields.items() if not isinstance(entry.get(name), kind)]
