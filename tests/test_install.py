"""The wheel: what `pip install .` puts into an environment runs without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import layerwise
from helpers.commands import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the content of the wheel, built from a copy, since building writes beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    files = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "conf", "layerwise"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in files), str(source)], check=True)
    build = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", *build], check=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith(f"layerwise-{layerwise.__version__}-")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_all_modules_and_their_files(installed):
    for folder, inside in (("layerwise", "layerwise"), ("conf", "layerwise/conf")):
        files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()]
        missing = [str(path) for path in files if path.suffix != ".pyc" and not (installed / inside / path).exists()]
        assert missing == []


def test_it_trains_in_an_empty_folder_with_own_experiment_files(installed, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [demo_digits]\nepochs: 1\nJ: 1\nname: mine\nmodel: {downsample: []}\n"
    (tmp_path / "mine" / "experiment" / "quick.yaml").write_text(text)
    words = ["train", "--config-dir", "mine", "experiment=quick", "dataset.limit=200"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    line = [sys.executable, "-m", "layerwise", *words]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "mine" / "report.html").exists()
    assert (tmp_path / "outputs" / "mine" / "results.json").exists()
