"""Ctrl-C, SIGTERM and SIGUSR1 as a request to stop, which the loops poll between steps.

All processes of a run stop after the same step: about once a second they exchange the signals received. Each
exchange is read one interval after it was started, so no process waits for it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

from layerwise.core import distributed
from layerwise.core.errors import Interrupted

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; the signal of `kill` and schedulers; the signal that slurm/*.sbatch request before the time limit."""

SECONDS_BETWEEN_QUESTIONS = 1.0
MOST_STEPS = 256
COPY_SECONDS = 2.0
"""A second Ctrl-C within this time is the launcher's copy of the first."""


class StopRequest:
    """Remember the first signal; a second Ctrl-C ends the process at once.

    A second SIGTERM is ignored, because launchers send it more than once. Use as a context manager: outside of it
    signals act as usual.

    Attributes:
        signal: first signal that this process received.
        least_steps: minimum number of steps between two exchanges. Processes that are several steps apart need more
            steps than that, or they would wait for each other.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.least_steps = 1
        self._last_ctrl_c: float | None = None
        self._previous: dict[int, object] = {}
        self._agreed: int | None = None
        self._question: distributed.Largest | None = None
        self._asked = time.perf_counter()
        self._steps = 0  # since then
        self._interval = 1  # steps between exchanges

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            now, last = time.monotonic(), self._last_ctrl_c
            if last is not None and not (distributed.joined() and now - last < COPY_SECONDS):
                raise KeyboardInterrupt
            self._last_ctrl_c = now
        self.signal = self.signal or number

    @property
    def agreed(self) -> int | None:
        """The signal that every process stops for; with one process, the signal it received."""
        return self._agreed if distributed.joined() else self.signal

    def requested(self) -> bool:
        """Whether to stop now. Every process must call this after the same steps. Collective about once a second."""
        if not distributed.joined():
            return self.signal is not None
        self._steps += 1
        if self._steps >= self._interval and self._agreed is None:
            self._listen()
            self._ask((time.perf_counter() - self._asked) / self._steps)
        return self._agreed is not None

    def agree(self) -> bool:
        """Whether any process received a signal. Collective, and waits for the answer."""
        if distributed.joined() and self._agreed is None:
            self._listen()
            self._ask()
            self._listen()
        return self.agreed is not None

    def check(self) -> None:
        """Stop if any process received a signal. Collective, and waits for the answer.

        Raises:
            Interrupted: a signal was received.
        """
        if self.agree():
            assert self.agreed is not None
            name = signal.Signals(self.agreed).name
            raise Interrupted(
                f"stopped by {name}; all finished steps are saved. Run the same command again to go on.", self.agreed
            ).shared()

    def watch(self, items: Iterable[T], n: int | None = None) -> Iterator[T]:
        """Yield the items, and raise Interrupted after a signal.

        Args:
            items: any items, such as batches.
            n: the largest number of items of any process, so that all processes poll equally often.
        """
        asked = 0
        for item in items:
            if self.requested():
                self.check()
            asked += 1
            yield item
        for _ in range((n or 0) - asked):
            if self.requested():
                self.check()

    def _ask(self, seconds_per_step: float = 0.0) -> None:
        self._question = distributed.Largest(self.signal or 0, seconds_per_step)
        self._asked, self._steps = time.perf_counter(), 0

    def _listen(self) -> None:
        if self._question is None:
            return
        number, seconds = self._question.answer()
        self._question = None
        self._agreed = int(number) or None
        if seconds > 0:  # else it was not sent after a step
            steps = int(SECONDS_BETWEEN_QUESTIONS / seconds)
            self._interval = max(self.least_steps, min(steps, MOST_STEPS), 1)
