"""A run in a process of its own, for commands that go on when it fails."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence


def run_process(words: Sequence[str], shown: Sequence[str] = ()) -> str | None:
    """Runs `python WORDS…` and passes its stderr on.

    Args:
        words: arguments of the Python interpreter, such as `-m layerwise train k=3`.
        shown: the command as it is printed before it starts; by default `python WORDS…`.

    Returns:
        None, or if it failed the last line of its stderr.

    Raises:
        KeyboardInterrupt: a signal stopped it.
    """
    print("$", shlex.join(shown or ["python", *words]), file=sys.stderr, flush=True)
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    last = ""
    assert process.stderr is not None
    interrupted = False
    while True:
        try:
            for line in process.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                last = line.strip() or last
            code = process.wait()
            break
        except KeyboardInterrupt:  # the run gets the signal as well and saves before it ends
            interrupted = True
    if interrupted or code >= 128:
        raise KeyboardInterrupt
    return None if code == 0 else f"failed ({last})"
