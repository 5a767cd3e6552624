"""Files that are whole or absent."""

from __future__ import annotations

import errno

import pytest
import torch

from layerwise.core import files as storage
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import DamagedFile, load_tree, save_tree

TREE = {
    "weights": {"a": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "step": torch.tensor(7)},
    "state": {0: {"momentum_buffer": torch.zeros(3)}, 1: {"none": None}},
    "list": [1, 2.5, "text", [torch.ones(2, dtype=torch.bfloat16)]],
    "empty": {},
}


def test_a_tree_comes_back_as_it_was(tmp_path):
    save_tree(tmp_path / "t.safetensors", TREE)
    loaded = load_tree(tmp_path / "t.safetensors")
    assert torch.equal(loaded["weights"]["a"], TREE["weights"]["a"])
    assert loaded["weights"]["step"].item() == 7
    assert list(loaded["state"]) == [0, 1]
    assert loaded["state"][1] == {"none": None}
    assert loaded["list"][:3] == [1, 2.5, "text"]
    assert torch.equal(loaded["list"][3][0], torch.ones(2, dtype=torch.bfloat16))
    assert loaded["empty"] == {}


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    x = torch.randn(4)
    save_tree(tmp_path / "t", {"a": x, "b": x[:2]})
    assert torch.equal(load_tree(tmp_path / "t")["b"], x[:2])


def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "t"
    save_tree(path, {"x": torch.arange(3), "name": "abc"})
    content = path.read_bytes()
    for n in range(0, len(content), 7):
        path.write_bytes(content[:n])
        with pytest.raises(DamagedFile):
            load_tree(path)
    noticed = 0
    for n in range(8, len(content)):
        path.write_bytes(content[:n] + bytes([content[n] ^ 1]) + content[n + 1 :])
        try:
            assert torch.equal(load_tree(path)["x"], torch.arange(3))  # white space in the header may change
        except DamagedFile:
            noticed += 1
    assert noticed > 0.9 * (len(content) - 8)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "t"
    save_tree(path, {"x": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(LayerwiseError, match="no space left on the disk"):
        save_tree(path, {"x": 2})
    assert load_tree(path) == {"x": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["t"]
