"""Ctrl-C, SIGTERM and SIGUSR1 as a request that the loops ask for between steps."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

from layerwise.errors import Interrupted

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, what `kill` and schedulers send, and what SLURM is asked to send before a job's time is up."""


class StopRequest:
    """Remembers the first signal; a second Ctrl-C ends the process at once.

    A second SIGTERM changes nothing: launchers pass it on more than once.

    Use as a context manager around the work; outside of it signals act as usual.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number

    def check(self) -> None:
        """Raises: Interrupted: a signal has come."""
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            raise Interrupted(
                f"stopped by {name}; all finished steps are saved. Run the same command again to go on.", self.signal
            )

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, with a `check` before each."""
        for item in items:
            self.check()
            yield item
