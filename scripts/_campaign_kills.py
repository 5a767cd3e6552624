"""Kills of a small run before its file operations; then the same command must give what it gives without a kill."""

from __future__ import annotations

import builtins
import io
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _campaign_judging import Outcome, Tally, fault
from _campaign_runs import TINY, command, files, rows

KILLED = 137

KINDS: dict[str, tuple[str, ...]] = {
    "in memory": (),
    "cache on the disk": ("cache=disk", "cache.views=2"),
    "search for the depth": ("dataset.validation=0.2", "plan.search_fraction=0.5", "plan.patience=1"),
    "fresh=true over another run": ("fresh=true",),
}
"""Runs by what is special about them, with their keys."""


class Killer:
    """Ends this process before a file operation below a folder, without any clean-up.

    The operations are those that change the disk: to open for writing, flush, rename, remove, and make a folder.

    Args:
        folder: where operations count.
        number: of the operation before which the process ends, counted from 1; 0 for none.
        log: file descriptor to which the number of operations so far is written.
    """

    def __init__(self, folder: Path, number: int, log: int) -> None:
        self.folder, self.number, self.log, self.seen = str(folder), number, log, 0

    def install(self) -> None:
        """Replaces the functions through which Python changes files."""
        for name in ("replace", "rename", "mkdir", "unlink", "remove", "rmdir"):
            setattr(os, name, self.counted(getattr(os, name)))
        fsync = os.fsync
        os.fsync = self.counted(fsync, lambda file: f"/proc/self/fd/{file}")
        builtins.open = io.open = self.counted(io.open, _opened_for_writing)

    def counted(self, function: Any, path_of: Any = lambda path, *_, **__: path) -> Any:
        """Returns a function that counts, may end the process, and calls another.

        Args:
            function: is called.
            path_of: gives the path that it changes, or None.
        """

        def call(*args: Any, **options: Any) -> Any:
            path = path_of(*args, **options)
            if isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(self.folder):
                self.seen += 1
                os.pwrite(self.log, str(self.seen).encode(), 0)
                if self.seen == self.number:
                    os._exit(KILLED)
            return function(*args, **options)

        return call


def _opened_for_writing(path: Any, mode: str = "r", *_: Any, **__: Any) -> Any:
    return path if set(mode) & set("wxa+") else None


@dataclass(frozen=True)
class Expected:
    """What a run leaves that is not killed: numbers, names of files, and how many file operations it takes."""

    rows: Any
    files: set[str]
    operations: int


def run(count: int, seed: int) -> Tally:
    """Kills runs before operations in a random order, each once; then twice in a row, at random.

    Args:
        count: number of runs that are killed.
        seed: of the order.
    """
    tally, order = Tally("kills"), random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary).resolve()
        expected = {kind: whole(top, kind) for kind in KINDS}
        once = [(kind, [number]) for kind, found in expected.items() for number in range(1, found.operations + 1)]
        print("; ".join(f"{kind}: {found.operations} file operations" for kind, found in expected.items()), flush=True)
        order.shuffle(once)
        twice = []
        while len(once) + len(twice) < count:
            kind = order.choice(list(KINDS))
            last = expected[kind].operations
            twice.append((kind, [order.randint(1, last), order.randint(1, last)]))
        for kind, numbers in [*once, *twice][:count]:
            last_outcome, _ = killed(top, kind, numbers)
            case = f"{kind}: killed before file operation {' and '.join(map(str, numbers))}"
            tally.add(last_outcome, verdict(last_outcome, top / "out" / "run", expected[kind]), case)
    return tally


def whole(top: Path, kind: str) -> Expected:
    """Returns what a kind of run leaves that is not killed."""
    outcome, operations = killed(top, kind, [0])
    folder = top / "out" / "run"
    assert outcome.code == 0, outcome.err
    return Expected(rows(folder), files(folder), operations)


def killed(top: Path, kind: str, numbers: Sequence[int]) -> tuple[Outcome, int]:
    """Kills a run, once for each number of an operation, and gives its command once more.

    Returns:
        How the last command ended, and the number of operations of the one before it.
    """
    out, operations = top / "out", 0
    shutil.rmtree(out, ignore_errors=True)
    words = ["train", *TINY, *KINDS[kind], f"output_dir={out}"]
    if "fresh=true" in words:
        command(["train", *TINY, f"output_dir={out}", "seed=1"])
    for number in numbers:
        with tempfile.TemporaryFile() as log:
            killer = Killer(out, number, log.fileno())
            outcome = command(words, killer.install)
            operations = int(os.pread(log.fileno(), 20, 0) or 0)
        if outcome.code not in (0, KILLED):
            return outcome, operations
    return command(words), operations


def verdict(outcome: Outcome, folder: Path, expected: Expected) -> str | None:
    """Says what is wrong with the last command of a run that was killed; None if nothing is."""
    if outcome.code != 0:
        return fault(outcome, [], acceptable=True) or "the command is refused"
    if rows(folder) != expected.rows:
        return "other results than without a kill"
    if left := files(folder) ^ expected.files:
        return f"other files: {sorted(left)}"
    return None
