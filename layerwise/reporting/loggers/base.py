"""What a logger is told, and several of them, of which any may fail and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Beginning:
    """What a run is, before it trains or goes on.

    Attributes:
        folder: of the run.
        config: resolved, as nested plain values.
        facts: hardware, versions and the like, as in results.json.
        lines: of metrics.jsonl that earlier processes of the run have written.
    """

    folder: Path
    config: dict[str, Any]
    facts: dict[str, Any]
    lines: list[dict[str, Any]]


class Logger(Protocol):
    """Shows one run. What it has shown already, in an earlier process of the same run, it does not show again."""

    def begin(self, beginning: Beginning) -> None:
        """Opens the log, or goes on with that of the run folder."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Shows an epoch: a line as written to metrics.jsonl."""

    def stage(self, results: dict[str, Any]) -> None:
        """Shows a finished stage: the results so far, as written to results.json."""

    def end(self, results: dict[str, Any] | None) -> None:
        """Shows the results and closes the log.

        Args:
            results: with how the run ended, in `status`; None after an error that nobody foresaw.
        """


class Loggers:
    """All loggers of a run. One that fails is left out from then on, with one warning; the run goes on.

    Args:
        loggers: by the name that `logger=…` gives them; none in all processes but the main one.
        warn: prints a warning.
    """

    def __init__(self, loggers: Mapping[str, Logger], warn: Callable[[str], None]) -> None:
        self._loggers = dict(loggers)
        self._warn = warn

    def begin(self, folder: Path, config: dict[str, Any], facts: Mapping[str, Any], metrics: Path) -> None:
        """Opens all logs, and shows the epochs of earlier processes to those that have not seen them.

        Args:
            folder: of the run.
            config: resolved, as nested plain values.
            facts: hardware, versions and the like.
            metrics: the file of the run's lines.
        """
        if not self._loggers:
            return
        beginning = Beginning(folder, config, dict(facts), read_lines(metrics))
        self._tell(lambda logger: logger.begin(beginning))

    def epoch(self, line: dict[str, Any]) -> None:
        """Shows an epoch."""
        self._tell(lambda logger: logger.epoch(line))

    def stage(self, results: dict[str, Any]) -> None:
        """Shows a finished stage."""
        self._tell(lambda logger: logger.stage(results))

    def end(self, results: dict[str, Any] | None) -> None:
        """Closes all logs; a second call does nothing."""
        self._tell(lambda logger: logger.end(results))
        self._loggers.clear()

    def _tell(self, say: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                say(logger)
            except Exception as error:  # whatever it is, a run of days must not end for it
                del self._loggers[name]
                reason = str(error).strip().splitlines() or [type(error).__name__]
                self._warn(f"logger={name} is left out from now on: {reason[0]}. The run goes on; its files are whole.")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:  # written when the machine went down
            continue
    return lines


def leaves(tree: Mapping[str, Any], within: str = "") -> Iterable[tuple[str, Any]]:
    """`("test/top1", 90.0)` for `{"test": {"top1": 90.0}}`."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{within}{name}/")
        else:
            yield within + name, value
