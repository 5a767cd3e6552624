"""Ctrl-C, SIGTERM and SIGUSR1 as a request to stop, which loops ask for between steps.

The processes of a run stop after the same step: about once a second they exchange the signals that have come.
A poll reads the answer to the question before, so that no process waits for another.
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
"""Ctrl-C, the signal of `kill` and of schedulers, and the one that SLURM sends before a job's time limit."""

SECONDS_BETWEEN_QUESTIONS = 1.0
MOST_STEPS = 256
"""Upper bound on the steps between two questions."""

COPY_SECONDS = 2.0
"""A second Ctrl-C within this time is the launcher's copy of the first."""


class StopRequest:
    """Remembers the first signal. A second Ctrl-C ends the process; a second SIGTERM is ignored (launchers repeat it).

    Used as a context manager around the work; outside of it signals act as usual. Methods that begin with `all_` are
    collective: every process of the run calls them in the same order. With one process they only look at `signal`.

    Attributes:
        signal: number of the first signal that came to this process, or None.
        least_steps: lower bound on the steps between two questions. Processes that work on different steps at the
            same time (`BlockParallel`) need more than the steps they are apart, else they would wait for each other.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.least_steps = 1
        self._last_ctrl_c: float | None = None
        self._previous: dict[int, object] = {}
        self._agreed: int | None = None
        self._question: distributed.AllReduceMax | None = None
        self._asked = time.perf_counter()
        self._steps = 0  # since then
        self._interval = 1  # steps from question to question

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
        """The signal that all processes stop for, or None. Local: asks nobody."""
        return self._agreed if distributed.joined() else self.signal

    def all_poll(self) -> bool:
        """Returns whether all processes stop after this step; does not wait for them. For the end of each step."""
        if not distributed.joined():
            return self.signal is not None
        self._steps += 1
        if self._steps >= self._interval and self._agreed is None:
            self._listen()
            self._ask((time.perf_counter() - self._asked) / self._steps)
        return self._agreed is not None

    def all_agree(self) -> bool:
        """Returns whether a signal has come to any process; waits for all of them."""
        if distributed.joined() and self._agreed is None:
            self._listen()
            self._ask()
            self._listen()
        return self.agreed is not None

    def all_check(self) -> None:
        """Raises if a signal has come to any process; waits for all of them.

        Raises:
            Interrupted: a signal has come.
        """
        if self.all_agree():
            assert self.agreed is not None
            name = signal.Signals(self.agreed).name
            raise Interrupted(
                f"stopped by {name}; all finished steps are saved. Run the same command again to go on.", self.agreed
            ).shared()

    def all_watch(self, items: Iterable[T], n: int | None = None) -> Iterator[T]:
        """Yields the items, and raises between two of them if a signal comes.

        Args:
            n: the largest number of items in any process, so that all poll equally often.

        Raises:
            Interrupted: a signal has come.
        """
        polled = 0
        for item in items:
            self._poll_and_check()
            polled += 1
            yield item
        for _ in range((n or 0) - polled):
            self._poll_and_check()

    def _poll_and_check(self) -> None:
        if self.all_poll():
            self.all_check()

    def _ask(self, seconds_per_step: float = 0.0) -> None:
        self._question = distributed.AllReduceMax(self.signal or 0, seconds_per_step)
        self._asked, self._steps = time.perf_counter(), 0

    def _listen(self) -> None:
        if self._question is None:
            return
        number, seconds = self._question.wait()
        self._question = None
        self._agreed = int(number) or None
        if seconds > 0:  # 0: the question was not asked after a step
            steps = int(SECONDS_BETWEEN_QUESTIONS / seconds)
            self._interval = max(self.least_steps, min(steps, MOST_STEPS), 1)
