"""Files that are whole or absent: written beside, checked, then renamed.

A saved tree (nested dictionaries and lists of tensors, numbers and strings) is one safetensors file:
loading it runs no code. The tree's structure stands as JSON in the file's header, with a SHA-256 over
tensors and structure, so that a truncated or altered file is recognised.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
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
    """The file is truncated, altered, or not written by `save_tree`."""


def save_tree(path: Path, tree: Tree, kept: str = "Checkpoints that were written before are intact.") -> None:
    """Writes a tree to a file, atomically: a crash at any moment leaves the old file or the new one.

    Args:
        path: of the file.
        tree: what it will hold.
        kept: what is safe if it cannot be written; ends the message.

    Raises:
        LayerwiseError: the disk is full or the folder cannot be written; the old file is intact.
    """
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_detach(tree, tensors))
    content = save(tensors, {"tree": outline, "sha256": fingerprint(tensors, outline)})
    write_atomically(path, content, kept)


def load_tree(path: Path) -> Tree:
    """Reads what `save_tree` wrote; tensors come on the CPU.

    Raises:
        DamagedFile: the file does not hold what was written.
        FileNotFoundError: there is none.
        LayerwiseError: the file cannot be opened.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        if path.stat().st_size == 0:
            raise DamagedFile(f"{path} is empty")
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise DamagedFile(f"{path} is truncated or altered ({error})") from error
    except OSError as error:  # says nothing about the content
        raise LayerwiseError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if header.get("sha256") != fingerprint(tensors, header.get("tree", "")):
        raise DamagedFile(f"{path} is altered (its checksum does not match)")
    return _attach(json.loads(header["tree"]), tensors)


def write_atomically(path: Path, content: bytes | str, kept: str) -> None:
    """Writes a file beside `path`, flushes it to the disk, and renames it.

    Raises:
        LayerwiseError: the write failed; its message ends with `kept`.
    """
    temporary = path.with_name(path.name + ".part")
    with writing(path, kept):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _detach(tree: Tree, tensors: dict[str, Tensor]) -> Tree:
    """The tree with each tensor replaced by its name in `tensors`."""
    if isinstance(tree, Tensor):
        name = f"t{len(tensors)}"
        # clone: safetensors refuses tensors that share memory; contiguous: it knows no channels_last
        tensors[name] = tree.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(tree, dict):
        # pairs, because JSON has only string keys and optimisers count their parameters
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
    """SHA-256 of named tensors (names, formats, shapes and values) and a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
