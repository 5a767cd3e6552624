"""Runs the commands as a user would: scripts in this process."""

from __future__ import annotations

import io
import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"

TINY = {
    "dataset": "digits",
    "k": 2,
    "J": 2,
    "epochs": 2,
    "batch_size": 64,
    "model.width": 8,
    "model.head_width": 8,
    "model.downsample": "[2]",
    "dataset.limit": 200,
    "dataset.limit_test": 100,
    "report": "false",
}
"""Overrides of a run that takes a second or two."""


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


TrainPy = Callable[..., Outcome]


def words(folder: Path, **overrides: Any) -> list[str]:
    """TINY with `overrides`: keys with dots are given as `**{"model.width": 4}`, and None leaves one out."""
    options = {**TINY, "output_dir": folder, **overrides}
    return [f"{key}={value}" for key, value in options.items() if value is not None]


def arguments(tmp_path: Path, *more: str, **overrides: Any) -> list[str]:
    """Arguments of a tiny run in `tmp_path`/out."""
    return [*words(tmp_path / "out", **overrides), *more]


def run_script(name: str, *words: str) -> Outcome:
    """`run_script("probe", "run=…")`."""
    GlobalHydra.instance().clear()
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    argv, path = [f"{name}.py", *words], [str(SCRIPTS), *sys.path]
    with patch.object(sys, "argv", argv), patch.object(sys, "path", path), redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
    return Outcome(code or 0, out.getvalue(), err.getvalue())


def assert_refused(outcome, *words: str) -> None:
    assert outcome.code not in (0, None)
    assert "Traceback" not in outcome.err + outcome.out
    (message,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in message, message
