"""The run as a W&B run: starts the process that talks to W&B, and tells it what happens without ever waiting."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from layerwise.core.errors import LayerwiseError
from layerwise.reporting.loggers.base import Beginning

PROCESS = """
import os, signal, sys
os.setpgid(0, 0)  # Ctrl-C, and what schedulers send, is for the training, which then tells this process
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
os.nice(19)  # before W&B's imports: on a busy machine the training comes first
sys.path[0] = sys.argv[1]
from layerwise.reporting.loggers.wandb_process import main
main()
"""
"""Not `python -m`, which would import what lies in the working directory first."""

LOG = "process.log"
"""What it has to complain about, beside W&B's files."""


class WandbRun:
    """A `Logger`.

    Args:
        project, entity, group, job_type, name, tags: of the W&B run.
        mode: online or offline.
        artifacts: upload the trained network, too.
        note: prints a line of information.
        warn: prints a warning.
        init_seconds: after which the server is given up and the run is logged offline.
        finish_seconds: after which an upload is given up at the end of the run.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        group: str,
        job_type: str,
        name: str,
        tags: list[str],
        mode: str,
        artifacts: bool,
        note: Callable[[str], None],
        warn: Callable[[str], None],
        init_seconds: float = 15.0,
        finish_seconds: float = 30.0,
    ) -> None:
        self._settings = {
            "project": project,
            "entity": entity,
            "group": group,
            "job_type": job_type,
            "name": name,
            "tags": tags,
            "mode": mode,
            "artifacts": artifacts,
            "init_seconds": init_seconds,
            "finish_seconds": finish_seconds,
            "program": sys.argv[0],
            "pid": os.getpid(),
        }
        self._patience = 2 * init_seconds + finish_seconds  # a server is given up, and then all is logged offline
        self._say = {"note": note, "warning": warn}
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._failure: str | None = None

    def begin(self, beginning: Beginning) -> None:
        folder = beginning.folder / "wandb"
        folder.mkdir(exist_ok=True)
        self._folder = folder
        with open(folder / LOG, "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, str(Path(__file__).resolve().parents[3])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "WANDB_SILENT": "true"},  # else it asks its server who one is
            )
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()
        self._send(
            "begin",
            self._settings
            | {
                "folder": str(beginning.folder),
                "config": beginning.config,
                "facts": beginning.facts,
                "lines": beginning.lines,
            },
        )

    def epoch(self, line: dict[str, Any]) -> None:
        self._send("epoch", line)

    def stage(self, results: dict[str, Any]) -> None:
        self._send("stage", results)

    def end(self, results: dict[str, Any] | None) -> None:
        if results is not None:
            self._send("end", results)
        self._events.put(None)
        try:
            self._process.wait(self._patience)
        except subprocess.TimeoutExpired as error:
            self._kill()
            raise LayerwiseError(
                f"W&B did not finish in {self._patience:.0f} s; what it has is in {self._folder} (`wandb sync`)"
            ) from error
        for thread in self._threads:
            thread.join(timeout=1.0)
        self._check()

    def _send(self, event: str, content: Any) -> None:
        self._check()
        self._events.put(json.dumps({event: content}))

    def _check(self) -> None:
        if self._failure is not None:
            raise LayerwiseError(f"{self._failure}; {self._folder / LOG} may say more")

    def _write(self) -> None:
        """Thread that hands events on: a process that hangs holds up this thread and no other."""
        assert self._process.stdin is not None
        try:
            while (text := self._events.get()) is not None:
                self._process.stdin.write(text + "\n")
                self._process.stdin.flush()
            self._process.stdin.close()
        except OSError:  # it has ended, and `_read` says why
            pass

    def _read(self) -> None:
        """Thread that prints what the process says, until it ends."""
        assert self._process.stdout is not None
        for text in self._process.stdout:
            ((kind, content),) = json.loads(text).items()
            if kind == "failed":
                self._failure = content
            else:
                self._say[kind](content)
        if self._process.wait() != 0 and self._failure is None:
            self._failure = f"its process has ended with {self._process.returncode}"

    def _kill(self) -> None:
        """Ends the process and W&B's service, which is its child."""
        process = psutil.Process(self._process.pid)
        for one in (*process.children(recursive=True), process):
            one.kill()
        self._process.wait()
