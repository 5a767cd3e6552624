"""A run folder from elsewhere: interpolations in its config.yaml stay text, so that nothing of this machine is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

import layerwise
from helpers.commands import TINY, run_script
from helpers.configs import configured
from layerwise.config.parse import from_yaml, to_yaml
from layerwise.core.errors import LayerwiseError
from layerwise.runs.reuse import shared_stages

SECRET = "hush-8d0f"
HOSTILE = {
    "name": "${oc.env:LAYERWISE_SECRET}",
    "output_dir": "x${oc.env:LAYERWISE_SECRET}",
    "device": "\\${oc.env:HOME}",
}


@pytest.fixture
def foreign(train_py, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose config.yaml asks for the environment."""
    monkeypatch.setenv("LAYERWISE_SECRET", SECRET)
    assert train_py(name="run", epochs=1).code == 0
    folder = tmp_path / "out" / "run"
    change(folder, HOSTILE)
    return folder


def change(folder: Path, values: dict) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def test_no_command_resolves_what_a_foreign_configuration_asks_for(foreign, tmp_path):
    config = from_yaml(foreign / "config.yaml")
    assert {name: getattr(config, name) for name in HOSTILE} == HOSTILE
    assert layerwise.load(foreign).spec.name == "digits"
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    said = [
        run_script("make_report", str(foreign)),
        run_script("collect", str(tmp_path / "out"), "--csv", str(tmp_path / "table.csv")),
        run_script("export", str(foreign), "--format", "torch_export"),
        run_script("probe", f"run={foreign}", "epochs=1", "limit=50"),
        run_script("../predict", f"run={foreign}", f"image={tmp_path / 'image.png'}"),
    ]
    assert [outcome.code for outcome in said] == [0] * len(said), [outcome.err for outcome in said]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET in outcome.out + outcome.err for outcome in said)
    assert not any(SECRET.encode() in content for content in written)
    assert "${oc.env:LAYERWISE_SECRET}" in (foreign / "report.html").read_text()


def test_reused_stages_come_from_a_configuration_that_is_not_resolved(foreign, tmp_path):
    tiny = [f"{key}={value}" for key, value in TINY.items()]
    config = configured(*tiny, "epochs=1", "model.final_head_width=4")
    assert len(shared_stages(foreign, config, tmp_path / "other")) == 1
    change(foreign, {"k": "${oc.decode:${oc.env:LAYERWISE_SECRET}}"})
    with pytest.raises(LayerwiseError) as caught:
        shared_stages(foreign, config, tmp_path / "other")
    assert "config.yaml: cannot be read (k: " in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["${oc.env:HOME}", r"C:\${x}", r"\\${x} ${y}", "$x", r"C:\t\\", "'\"${a}"])
def test_text_that_looks_like_an_interpolation_is_read_as_it_was_written(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(configured("dataset=digits")))
    change(tmp_path, {"name": text})
    assert from_yaml(path).name == text
    change(tmp_path, {"name": "${"})
    with pytest.raises(LayerwiseError, match=r"config\.yaml: cannot be read"):
        from_yaml(path)


@pytest.mark.parametrize("logger", ["none", "tensorboard"])
def test_a_run_folder_holds_nothing_of_the_environment(train_py, tmp_path, monkeypatch, logger):
    home = tmp_path / f"home-{SECRET}"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "WANDB_API_KEY", "HF_TOKEN", "LAYERWISE_SECRET"):
        monkeypatch.setenv(name, str(home))
    assert train_py(epochs=1, report="true", logger=logger, output_dir="out").code == 0
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert str(tmp_path).encode() not in content, path


def test_config_yaml_does_not_name_the_home_folder(train_py, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"name": "run", "epochs": 1, "dataset.root": tmp_path / "data", "report": "true"}
    assert train_py(**options).code == 0
    folder = tmp_path / "out" / "run"
    assert "root: ~/data" in (folder / "config.yaml").read_text()
    assert str(tmp_path) not in (folder / "config.yaml").read_text() + (folder / "dataset.json").read_text()
    config = from_yaml(folder / "config.yaml")
    assert (config.dataset.root, config.output_dir) == (str(tmp_path / "data"), str(tmp_path / "out"))
    assert "finished" in train_py(**options).err
