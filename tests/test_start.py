"""What commands import: torch takes seconds to load and torchvision longer, so those that do without do not load it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from helpers.commands import ROOT, words

PROGRAM = """
import json, runpy, sys
sys.argv = ["layerwise", *sys.argv[1:]]
try:
    runpy.run_module("layerwise", run_name="__main__")
finally:
    print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""
SLOW = {"torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "wandb", "tensorboard", "matplotlib"}


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of `layerwise ARGUMENTS`, and which of the SLOW libraries it imported."""
    line = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.returncode, SLOW & set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--help"], 0),
        (["trian"], 2),
        (["train", "--help"], 0),
        (["train", "model.widht=3"], 2),
        (["train", "model=simcn"], 2),
        (["train", "experiment=demo_digit"], 2),
    ],
)
def test_help_and_typos_load_no_torch(arguments, exit_code):
    assert loaded(*arguments) == (exit_code, set())


def test_a_summary_loads_torch_alone():
    assert loaded("train", "summary=table") == (0, {"torch"})


def test_a_finished_run_is_shown_with_torch_alone(trained, tmp_path):
    folder = trained(name="run")
    assert loaded("train", *words(tmp_path / "out", name="run")) == (0, {"torch"})
    assert loaded("collect", str(folder)) == (0, {"torch"})
    assert loaded("report", str(folder)) == (0, {"torch"})
