"""Errors that a user can mend, and how they reach the terminal.

A `LayerwiseError` carries one message that names the key or the file, what is wrong and what would
be right. It is printed without a traceback; a bug, by contrast, keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class LayerwiseError(Exception):
    """Something that the user can mend; the text says how.

    Attributes:
        exit_code: of the command that it ends.
        is_shared: all processes of the run raise it, so that one of them prints it for all.
    """

    exit_code = 2
    is_shared = False

    def shared(self) -> LayerwiseError:
        """The same error, marked as one that all processes raise."""
        self.is_shared = True
        return self


class NonFiniteLoss(LayerwiseError):
    """The loss became NaN or infinite."""

    exit_code = 3


class Interrupted(LayerwiseError):
    """A signal came, after a checkpoint was written. The exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)
        self.exit_code = 128 + signal_number

    def __str__(self) -> str:
        return str(self.args[0])


class LaunchError(LayerwiseError):
    """This process was not started as the others of its run, or does not find them; each says so itself."""


class LostProcess(LayerwiseError):
    """Another process of the run has ended; it says why itself."""

    exit_code = 4


SUGGESTED = 100
"""Most words that a message lists."""


def suggest(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'width'?"` for a near miss of a known word, else the sorted list of known words."""
    choices = sorted(set(known))
    near = difflib.get_close_matches(word, choices, n=1)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(choices[:SUGGESTED])}{', …' if len(choices) > SUGGESTED else ''}."


@contextmanager
def writing(path: Path, kept: str) -> Iterator[None]:
    """Turns a failed write into one message.

    Args:
        path: the file or folder that is written.
        kept: what of the run is safe in spite of the failure; it ends the message.

    Raises:
        LayerwiseError: the disk is full, or the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        problem = "no space left on the disk" if full else (error.strerror or str(error))
        remedy = "free some space" if full else "make the folder writable, or choose another"
        raise LayerwiseError(f"{path}: cannot be written: {problem}. {kept} To go on, {remedy}.") from error
