"""Runs a script of scripts/ as a user would, but in this process (imports are slow)."""

from __future__ import annotations

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest.mock import patch

from conftest import ROOT, Outcome
from hydra.core.global_hydra import GlobalHydra

SCRIPTS = ROOT / "scripts"


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
