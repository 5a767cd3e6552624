"""Files that are complete or absent: written under a temporary name, then renamed.

A tree (nested dictionaries and lists of tensors, numbers and strings) is saved as one safetensors file;
loading it runs no code. The file's header holds the tree's structure as JSON, and a SHA-256 of tensors and
structure that detects a truncated or altered file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from layerwise.core.errors import LayerwiseError, writing

Tree = Any
"""Nested dicts and lists of tensors and JSON values."""

_TENSOR = "__tensor__"


class DamagedFile(Exception):
    """The file is truncated, altered, or was not written by `save_tree`."""


def save_tree(path: Path, tree: Tree, kept: str = "Earlier checkpoints are intact.", makes_folder: bool = True) -> None:
    """Write a tree to a file, atomically: a crash at any moment leaves the old file or the new one.

    Args:
        tree: nested dictionaries and lists of tensors and JSON values.
        kept: sentence for the error message that says what the failure did not harm.
        makes_folder: see `write_atomically`.

    Raises:
        LayerwiseError: the disk is full or the folder is not writable; the old file is intact.
    """
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_detach(tree, tensors))
    content = save(tensors, {"tree": outline, "sha256": fingerprint(tensors, outline)})
    write_atomically(path, content, kept, makes_folder)


def load_tree(path: Path) -> Tree:
    """Read a file of `save_tree`, with its tensors on the CPU.

    Raises:
        DamagedFile: the content differs from what was written.
        FileNotFoundError: the file does not exist.
        LayerwiseError: the file cannot be opened.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if path.is_dir():
        raise DamagedFile(f"{path} is a folder and not a file")
    try:
        if path.stat().st_size == 0:
            raise DamagedFile(f"{path} is empty")
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except SafetensorError as error:
        raise DamagedFile(f"{path} is truncated or altered ({error})") from error
    except OSError as error:  # the content may be intact
        raise LayerwiseError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if header.get("sha256") != fingerprint(tensors, header.get("tree", "")):
        raise DamagedFile(f"{path} is altered (its checksum does not match)")
    return _attach(json.loads(header["tree"]), tensors)


def write_atomically(path: Path, content: bytes | str, kept: str, makes_folder: bool = True) -> None:
    """Write a temporary file next to `path`, flush it to the disk, and rename it.

    A device or pipe, such as /dev/stdout, is written to and not replaced.

    Args:
        path: file to write.
        content: what it will hold.
        kept: sentence for the error message that says what the failure did not harm.
        makes_folder: whether the folder is made if it is absent. Not in a run folder: a run whose folder was deleted
            must not make half of it again.

    Raises:
        LayerwiseError: the write failed; the message contains `kept`.
    """
    temporary = path.with_name(path.name + ".part")
    content = content.encode() if isinstance(content, str) else content
    with writing(path, kept):
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
        try:
            if makes_folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def alone(folder: Path, kept: str) -> Iterator[None]:
    """Makes a folder, and keeps out others that ask for it until the block ends or the process does.

    Args:
        kept: as in `write_atomically`.

    Raises:
        LayerwiseError: another process works there, or the folder cannot be made.
    """
    with writing(folder, kept):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise LayerwiseError(f"{folder}: another process writes there. Wait for it, or use another folder.") from error
    except OSError:  # some network disks lock no folders
        pass
    try:
        yield
    finally:
        os.close(lock)


def _detach(tree: Tree, tensors: dict[str, Tensor]) -> Tree:
    """Move the tensors of a tree into `tensors`, and leave their names in the tree."""
    if isinstance(tree, Tensor):
        name = f"t{len(tensors)}"
        # clone: safetensors rejects tensors that share memory; contiguous: it has no channels_last
        tensors[name] = tree.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(tree, dict):
        # pairs: JSON keys are strings, and optimisers number their parameters
        return {"dict": [[key, _detach(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_detach(value, tensors) for value in tree]
    return tree


def _attach(tree: Tree, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(tree, list):
        return [_attach(value, tensors) for value in tree]
    if isinstance(tree, dict) and _TENSOR in tree:
        return tensors[tree[_TENSOR]]
    if isinstance(tree, dict):
        return {key: _attach(value, tensors) for key, value in tree["dict"]}
    return tree


def fingerprint(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256, in hexadecimal, of named tensors (names, dtypes, shapes and values) and a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
