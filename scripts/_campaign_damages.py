"""Random damages of the files of a run folder; then the same command, or `layerwise report`."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _campaign_judging import Outcome, Tally, fault
from _campaign_runs import TINY, command, rows

from layerwise.runs.run_files import RESULTS

UNPROTECTED = (".lock", "report.html", "command.txt", "samples.safetensors")
"""Files without numbers of the run: what is damaged in them may stay, or goes without a word."""


def run(count: int, seed: int) -> Tally:
    """Damages a file of a finished or a stopped run, and gives its command, or reports it.

    Args:
        count: number of damages.
        seed: of the choice.
    """
    tally, choice = Tally("damages"), random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary).resolve()
        out, finished, stopped = top / "out", top / "finished", top / "stopped"
        folder, train = out / "run", ["train", *TINY, "dataset.validation=0.2", f"output_dir={out}"]
        outcome = command(train)
        assert outcome.code == 0, outcome.err
        expected = rows(folder)
        out.rename(finished)
        shutil.copytree(finished, stopped)
        (stopped / "run" / "checkpoints" / "stage_2.safetensors").unlink()
        (stopped / "run" / RESULTS).unlink()
        for _ in range(count):
            source = choice.choice((finished, stopped))
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(source, out)
            path = choice.choice(sorted(path for path in out.rglob("*") if path.is_file()))
            kind = choice.choice(list(DAMAGES))
            DAMAGES[kind](path, choice)
            words = choice.choice((train, ["report", str(folder)]))
            outcome = command(words)
            case = f"{words[0]} of a {source.name} run: {path.relative_to(folder)} {kind}"
            tally.add(outcome, verdict(outcome, words[0], path, folder, expected), case)
    return tally


def verdict(outcome: Outcome, name: str, path: Path, folder: Path, expected: Any) -> str | None:
    """Says what is wrong with how a command ended; None if nothing is."""
    named = [path.name, str(folder)] if path.name not in UNPROTECTED else []
    if (found := fault(outcome, named, acceptable=True)) is not None:
        return found
    if outcome.code == 0 and name == "train" and rows(folder) != expected:
        return "other results than before"
    return None


def flip(path: Path, choice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, choice: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: choice.randrange(len(content) or 1)])


def drop_line(path: Path, choice: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if lines:
        lines.pop(choice.randrange(len(lines)))
    path.write_bytes(b"".join(lines))


def replace_by_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "with one flipped bit": flip,
    "truncated": truncate,
    "without one of its lines": drop_line,
    "emptied": lambda path, _: path.write_bytes(b""),
    "replaced by a folder": replace_by_folder,
    "deleted": lambda path, _: path.unlink(),
}
