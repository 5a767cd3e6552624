"""When a signal is heard: after a step, by all processes of a run after the same one."""

from __future__ import annotations

import os
import signal

import pytest

from layerwise.core import distributed, interrupt
from layerwise.core.interrupt import StopRequest


class OwnAnswer:
    """`distributed.AllReduceMax` of a process that has no others."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def wait(self) -> list[float]:
        return self.values


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """Of one of several processes."""
    clock = Clock()
    monkeypatch.setattr(distributed, "joined", lambda: True)
    monkeypatch.setattr(distributed, "AllReduceMax", OwnAnswer)
    monkeypatch.setattr(interrupt.time, "perf_counter", clock)
    return clock


@pytest.mark.parametrize("step_seconds", [0.001, 0.01, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("before_agreeing", [0.002, 0.05])
def test_a_signal_is_heard_within_seconds_or_a_few_steps(clock, step_seconds, before_agreeing):
    stop = StopRequest()
    worst = 0.0
    for signalled_at in range(0, 300, 7):
        stop = StopRequest()
        for step in range(600):
            clock.seconds += step_seconds
            if step == signalled_at:
                stop.signal, sent = signal.SIGTERM, clock.seconds
            if stop.all_poll():
                break
            if step % 50 == 49:  # the end of an epoch
                clock.seconds += before_agreeing
                if stop.all_agree():
                    break
        else:
            pytest.fail("the signal was not heard")
        worst = max(worst, clock.seconds - sent)
    assert worst <= max(3.0, 4 * step_seconds)


def test_a_second_ctrl_c_ends_at_once_whatever_came_before():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
