"""Commands in processes of their own, forked from one that has imported PyTorch already: an import takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from helpers.commands import ROOT, arguments

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *("pytest", "torch._dynamo", "torchvision", "sklearn.datasets", "sklearn.metrics"),
        *("hydra.main", "layerwise.commands.train", "layerwise.commands.multirun", "layerwise.experiment.run"),
    ]
)


class Command:
    """A Python script with arguments in a process of its own, with the methods of subprocess.Popen that tests need.

    Args:
        environment: variables that are set beside those of this process.
    """

    def __init__(self, script: Path, words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._said = Path(tempfile.mkdtemp(prefix="said"))
        everything = {**os.environ, **environment}
        self._process = FORKS.Process(
            target=_run, args=(str(script), words, folder, everything, self._said), daemon=True
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 60) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """The outputs, when the process has ended."""
        self.wait(timeout)
        return (self._said / "out").read_text(), (self._said / "err").read_text()

    @property
    def stderr(self) -> Iterator[str]:
        """Its lines, when the process has ended."""
        return iter(self.communicate(timeout=300)[1].splitlines(keepends=True))

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(script: str, words: list[str], folder: Path, environment: dict[str, str], said: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [script, *words]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def start(tmp_path: Path, *more: str, **overrides: object) -> Command:
    """Starts train.py in a process of its own, to be killed or sent signals."""
    return Command(ROOT / "train.py", arguments(tmp_path, *more, **overrides), tmp_path, {})


def popen(line: Sequence[str], **options: object) -> Command:
    """Takes the place of subprocess.Popen for `python train.py …` and `python -m layerwise train …`."""
    words = list(line[1:])
    words[: 3 if words[0] == "-m" else 1] = []
    return Command(ROOT / "train.py", words, Path.cwd(), {})


def wait_for(condition, process: Command, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def start_and_train(tmp_path: Path, lines: int, name: str, **overrides: object) -> tuple[Command, Path]:
    """Starts train.py and waits for a number of lines of metrics.jsonl; gives the process and the run folder."""
    process, folder = start(tmp_path, name=name, **overrides), tmp_path / "out" / name
    metrics = folder / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= lines, process)
    return process, folder
