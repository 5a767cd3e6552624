"""Errors that a user can fix, and the messages they print.

A `LayerwiseError` carries one message: the key or the file, what is wrong, and what would be right. It is
printed without a traceback. A bug keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class LayerwiseError(Exception):
    """An error that the user can fix; its message says how.

    Attributes:
        is_shared: every process of the run raises this error, so only the main process prints it.
    """

    exit_code = 2
    is_shared = False

    def shared(self) -> LayerwiseError:
        """Mark this error as raised by every process, and return it."""
        self.is_shared = True
        return self


@contextmanager
def blamed(name: str) -> Iterator[None]:
    """Raises an error of a user's own code as a LayerwiseError that says what raised it.

    Args:
        name: of the code, as the user knows it.
    """
    try:
        yield
    except LayerwiseError:
        raise
    except Exception as error:
        told = one_line(str(error)).rstrip(".")
        raise LayerwiseError(f"{name}: raised {type(error).__name__}: {told}. debug=true shows where.") from error


class NonFiniteLoss(LayerwiseError):
    """The loss became NaN or infinite."""

    exit_code = 3


class Interrupted(LayerwiseError):
    """A signal stopped the run after a checkpoint was saved. The exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)
        self.exit_code = 128 + signal_number

    def __str__(self) -> str:
        return str(self.args[0])


class LaunchError(LayerwiseError):
    """This process was started differently from the others of its run, or cannot reach them; each prints its own."""


class LostProcess(LayerwiseError):
    """Another process of the run has ended; its own message says why."""

    exit_code = 4


SUGGESTED = 100
"""Maximum number of words listed in a message."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'width'?"` if a known word is close, else the sorted list of known words.

    Words that go on behind the given one (`paper_k1_table3` for `paper_k1`) are closer than all others.
    """
    choices = sorted(set(known))
    near = [choice for choice in choices if choice.startswith(f"{word}_")] if word else []
    if near := near[:2] or difflib.get_close_matches(word, choices, n=1):
        return f" Did you mean {' or '.join(map(repr, near))}?"
    return f" Known: {', '.join(choices[:SUGGESTED])}{', …' if len(choices) > SUGGESTED else ''}."


LONGEST = 300
"""Maximum number of characters that a message repeats of another program's message, or of what it was given."""


def one_line(text: str) -> str:
    """Return another program's message as one line of printable characters, without addresses of objects."""
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(text.split()))
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


@contextmanager
def writing(path: Path, kept: str) -> Iterator[None]:
    """Turn a failed write into one message.

    Args:
        kept: sentence for the message that says what the failure did not harm.

    Raises:
        LayerwiseError: the disk is full or the path is not writable.
    """
    try:
        yield
    except OSError as error:
        problem, remedy = error.strerror or str(error), "make the folder writable, or choose another"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            problem, remedy = "no space left on the disk", "free some space"
        elif error.errno in (errno.ENOENT, errno.ESTALE):
            problem, remedy = "its folder is gone", "put it back if it was moved, and give the command again"
        elif error.errno in (errno.EISDIR, errno.ENOTEMPTY):
            problem, remedy = "a folder has this name", "remove it"
        raise LayerwiseError(f"{path}: cannot be written: {problem}. {kept} To go on, {remedy}.") from error
