"""What all campaigns of hostile inputs share: a command in a child process, and the verdict on how it ended."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 60
"""What runs longer is counted as a hang."""

LINES = 3
"""Maximum number of lines of a message."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: exit code; negative: the signal that killed it; None: it was stopped after `SECONDS`.
        out, err: what it printed.
    """

    code: int | None
    out: str
    err: str


def in_child(action: Callable[[], object], seconds: float = SECONDS, address_gb: float | None = None) -> Outcome:
    """Calls a function in a forked process, which has all modules loaded already.

    Args:
        action: what the child does. A `SystemExit` is its exit code; any other exception prints a traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _act(action, out, err, address_gb)
        code = _wait(child, seconds)
        return Outcome(code, out.read_text(errors="replace"), err.read_text(errors="replace"))


def _act(action: Callable[[], object], out: Path, err: Path, address_gb: float | None) -> None:
    """In the child; does not return."""
    code: object = 1
    try:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        if address_gb is not None:
            resource.setrlimit(resource.RLIMIT_AS, (int(address_gb * 2**30),) * 2)
        action()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _wait(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def fault(outcome: Outcome, names: Sequence[str], acceptable: bool) -> str | None:
    """What is wrong with how a hostile input was treated, as a kind of fault; None if nothing is.

    Args:
        names: words of which a message must contain one, such as a key or a file; empty: any message will do.
        acceptable: whether the input may be used without a word.
    """
    if outcome.code is None:
        return "hang"
    if outcome.code < 0:
        return f"killed by {signal.Signals(-outcome.code).name}"
    if "Traceback (most recent call last)" in outcome.err + outcome.out:
        return "traceback"
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    if outcome.code == 0:
        warned = any(line.startswith("warning: ") and named(line, names) for line in lines)
        return None if acceptable or warned else "silent acceptance"
    message = "\n".join(lines[next((at for at, line in enumerate(lines) if line.startswith("error: ")), 0) :])
    if not message.startswith("error: "):
        return "no message"
    if len(message.splitlines()) > LINES:
        return f"more than {LINES} lines"
    if re.search(r"0x[0-9a-f]{6,}|<class '|object at ", message):
        return "address or class of an object in the message"
    return None if named(message, names) else "the message does not name it"


def named(message: str, names: Sequence[str]) -> bool:
    return not names or any(name in message for name in names)


@dataclass
class Tally:
    """The verdicts of a campaign.

    Attributes:
        name: of the campaign.
        counts: of inputs, by what became of them.
        faults: each with its kind and what reproduces it.
    """

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, str]] = field(default_factory=list)

    def add(self, outcome: Outcome, found: str | None, case: str) -> None:
        """Counts an input.

        Args:
            found: the kind of fault, or None.
        """
        if found is not None:
            self.faults.append((found, f"{case}\n{outcome.err.strip()[-1500:]}"))
            self.counts[f"FAULT: {found}"] += 1
        else:
            self.counts["accepted" if outcome.code == 0 else "refused with a message"] += 1

    def report(self) -> str:
        total = sum(self.counts.values())
        lines = [f"{self.name}: {total} inputs, {len(self.faults)} faults"]
        lines += [f"  {count:6d}  {what}" for what, count in sorted(self.counts.items())]
        return "\n".join([*lines, *(f"\n[{kind}] {case}" for kind, case in self.faults)])
