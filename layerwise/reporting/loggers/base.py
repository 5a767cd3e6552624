"""What a logger is, and how a run tells several of them without waiting for any."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from layerwise.reporting.command import command_of
from layerwise.runs.metrics import read_lines
from layerwise.runs.run_files import METRICS

LIVE_SECONDS = 60.0
"""The longest that the end of a training waits for its loggers."""

ABANDON_SECONDS = 5.0
"""The longest that a logger takes to give up."""


@dataclass(frozen=True)
class Beginning:
    """What a logger needs before the first epoch.

    Attributes:
        config: the resolved configuration as nested plain values.
        facts: hardware, versions and the like, as in results.json.
        command: that began the run.
        lines: of metrics.jsonl, as far as it is written.
    """

    folder: Path
    config: dict[str, Any]
    facts: dict[str, Any]
    command: str
    lines: list[dict[str, Any]]


class Logger(Protocol):
    """Sends one run. It knows what it has sent, also in an earlier process, and does not send that again."""

    def is_complete(self, folder: Path) -> bool:
        """Whether all of a completed run has been sent."""

    def begin(self, beginning: Beginning) -> None:
        """Opens the log, and sends the lines that it does not have."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Sends a line of metrics.jsonl."""

    def stage(self, results: dict[str, Any]) -> None:
        """Sends the finished stages of results.json."""

    def end(self, results: dict[str, Any] | None) -> None:
        """Sends results.json, whose `status` says how the run ended, and closes the log.

        Args:
            results: None after an error that nobody foresaw.
        """

    def abandon(self) -> None:
        """Gives up at once, after an error or when `end` takes too long."""


class Loggers:
    """The loggers of a run, each in a thread of its own: one that fails or hangs costs a warning, and no line.

    Args:
        loggers: by the name that `logger=…` gives them; none in all processes but the main one.
        seconds: the longest that `end` waits.
    """

    def __init__(
        self, loggers: Mapping[str, Logger], warn: Callable[[str], None], seconds: float = LIVE_SECONDS
    ) -> None:
        self._loggers = dict(loggers)
        self._warn, self._seconds = warn, seconds
        self._threads: dict[str, _LoggerThread] = {}

    def begin(self, folder: Path, config: dict[str, Any], facts: Mapping[str, Any]) -> None:
        """Opens all logs.

        Args:
            config: the resolved configuration as nested plain values.
        """
        for name, logger in self._loggers.items():
            self._threads[name] = _LoggerThread(name, logger, folder, self._warn)
            self._threads[name].start()
        self._tell("begin", Beginning(folder, config, dict(facts), command_of(folder), read_lines(folder / METRICS)))

    def epoch(self, line: dict[str, Any]) -> None:
        """Sends an epoch."""
        self._tell("epoch", line)

    def stage(self, results: dict[str, Any]) -> None:
        """Sends a finished stage."""
        self._tell("stage", results)

    def end(self, results: dict[str, Any] | None) -> None:
        """Closes all logs; a second call does nothing."""
        self._tell("end", results)
        for thread in self._threads.values():
            thread.finish(self._seconds)
        self._threads.clear()
        self._loggers.clear()

    def _tell(self, event: str, content: Any) -> None:
        for thread in self._threads.values():
            thread.events.put((event, content))


class _LoggerThread(threading.Thread):
    """Calls a logger's methods in their order, until one fails."""

    def __init__(self, name: str, logger: Logger, folder: Path, warn: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.events: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._label, self._logger, self._folder, self._warn = name, logger, folder, warn
        self._given_up = threading.Lock()

    def run(self) -> None:
        try:
            event = "begin"
            while event != "end":
                event, content = self.events.get()
                getattr(self._logger, event)(content)
        except Exception as error:  # whatever it is, a run of days must not end for it
            self._give_up((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."))

    def finish(self, seconds: float) -> None:
        """Waits for the last event."""
        self.join(seconds)
        if self.is_alive():
            self._give_up(f"not finished after {seconds:.0f} s")

    def _give_up(self, reason: str) -> None:
        if not self._given_up.acquire(blocking=False):
            return
        self._warn(
            f"logger={self._label}: {reason}. The run and its files are whole; "
            f"`layerwise log {self._folder} logger={self._label}` sends what is missing."
        )
        abandoning = threading.Thread(target=self._abandon, daemon=True)  # W&B may hang in its own clean-up, too
        abandoning.start()
        abandoning.join(ABANDON_SECONDS)

    def _abandon(self) -> None:
        with suppress(Exception, SystemExit):  # it is broken already; W&B exits with its service's code
            self._logger.abandon()
