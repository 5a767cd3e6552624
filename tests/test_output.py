"""What the commands print where printing fails: other encodings, closed pipes, full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import ROOT

VERSION = [sys.executable, "-m", "layerwise", "--version"]
TABLE = [
    *(sys.executable, "-m", "layerwise", "train", "dataset=digits", "model.downsample=[]", "J=1", "summary=table"),
    *("model.width=4", "model.head_width=4"),
]


def run(words: list[str], stdout: int, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, env=env, text=True, timeout=300)


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["strict", "C"],
)
def test_a_terminal_without_a_character_shows_an_escape(environment):
    done = run(TABLE, subprocess.PIPE, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\xd7" in done.stdout  # ×


def test_a_closed_pipe_ends_a_command_quietly():
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(VERSION, write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_said():
    with open("/dev/full", "w") as full:
        done = run(VERSION, full.fileno())
    assert done.returncode == 2
    assert done.stderr == "error: the standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("code", [0, 3])
def test_a_process_that_has_left_the_others_does_not_wait_for_its_threads(code):
    """Python's own end would wait for this thread for ever, as it aborts over threads of PyTorch's."""
    program = f"""
import atexit, sys, threading
from layerwise.commands.errors import ended_without_python
from layerwise.core import distributed
distributed._left = True
atexit.register(print, "tidied")
threading.Thread(target=threading.Event().wait).start()
with ended_without_python():
    print("trained")
    sys.exit({code}) if {code} else None
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "trained\ntidied\n"), done.stderr
