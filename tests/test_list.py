"""layerwise list."""

from __future__ import annotations

import pytest

from layerwise.__main__ import main
from layerwise.commands import list as listing
from layerwise.commands.conf_files import choices
from layerwise.core.errors import LayerwiseError
from layerwise.models.choices import HeadKind
from layerwise.training.choices import LossName

VALUES = {
    "models": choices("model"),
    "heads": [*(kind.value for kind in HeadKind), "own"],
    "datasets": choices("dataset"),
    "plans": choices("plan"),
    "objectives": [*(name.value for name in LossName), "own"],
}


@pytest.mark.parametrize("what", list(VALUES))
def test_every_choice_is_listed_once_with_a_line(what):
    entries = listing.LISTS[what][1]()
    assert sorted(name for name, _, _ in entries) == sorted(VALUES[what])
    assert all(line.strip() for _, _, line in entries)


def test_keys_are_those_of_the_choice():
    entries = {what: {name: keys for name, keys, _ in make()} for what, (_, make) in listing.LISTS.items()}
    assert set(entries["heads"]["pooled"]) == {"head_width", "head_widths", "final_head_width", "head_scale"}
    assert entries["heads"]["predsim"] == []
    assert {"pool", "pool_overlap"} <= set(entries["heads"]["cnn"])
    assert "depth" in entries["models"]["vgg"]
    assert "name" in entries["models"]["timm"]
    assert "name" not in entries["datasets"]["digits"]
    assert "patience" in entries["plans"]["greedy"]
    assert "path" in entries["datasets"]["table"]
    assert "single_logit" in entries["objectives"]["cross_entropy"]


def test_the_command_prints_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main(["list", "plans"])
    text = capsys.readouterr().out
    assert "plan=" in text
    assert "simultaneous" in text
    assert "blocks_per_stage" in text


def test_another_word_is_refused():
    with pytest.raises(LayerwiseError, match="models"):
        listing.main(["networks"])
