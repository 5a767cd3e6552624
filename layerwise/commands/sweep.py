"""Runs a sweep: a file with one line of arguments of layerwise train for each run.

    layerwise sweep FILE                  train all lines, one after another, on this machine
    layerwise sweep FILE -- KEY=VALUE …   add arguments to each line, such as output_dir=FOLDER
    layerwise sweep FILE --check          train nothing; name wrong lines and duplicate runs
    layerwise sweep FILE --count          print the number of runs
    layerwise sweep FILE --line 3         train the fourth line only: for job arrays (slurm/sweep.sbatch)

Lines are quoted as in a shell; blank lines and lines that begin with # are skipped. A line that fails is named at once,
the others still run, and the exit code is 1 (with --line: that of layerwise train). Finished runs return at once and
stopped ones continue, so the same command again continues a sweep.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from layerwise.commands import train
from layerwise.commands.arguments import Parser, named
from layerwise.commands.compose import configuration
from layerwise.commands.errors import explain, reported
from layerwise.commands.own_process import run_process
from layerwise.config.build import build_spec
from layerwise.core.errors import LayerwiseError
from layerwise.runs.folder import run_path


@dataclass(frozen=True)
class Task:
    """One run of a sweep.

    Attributes:
        place: `FILE:12`, where it stands.
        more: added to the arguments of every run.
    """

    place: str
    line: str
    more: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The arguments for layerwise train.

        Raises:
            LayerwiseError: the quotation marks do not match.
        """
        try:
            return [*shlex.split(self.line), *self.more]
        except ValueError as error:
            raise LayerwiseError(f"cannot read '{self.line}': {str(error).lower()}.") from error

    def folder(self) -> Path:
        """The run folder, of a configuration that layerwise train would begin with.

        Raises:
            LayerwiseError: what layerwise train would say.
        """
        try:
            config = configuration(self.words())
        except (HydraException, OmegaConfBaseException) as error:
            raise LayerwiseError(explain(error)) from error
        build_spec(config)
        return run_path(config)


def main(words: Sequence[str]) -> int:
    own, more = split_arguments(list(words))
    parser = Parser("sweep", __doc__)
    parser.add_argument("file", type=named, metavar="FILE", help="a line of arguments for each run")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="name what is wrong, train nothing")
    action.add_argument("--count", action="store_true", help="print the number of runs")
    action.add_argument("--line", type=int, metavar="N", help="only the N-th run, counted from 0")
    options = parser.parse_args(own)
    tasks = read_tasks(options.file, tuple(more))
    if options.count:
        print(len(tasks))
        return 0
    if options.check:
        return check(tasks)
    if options.line is None:
        return run_all(tasks)
    if not 0 <= options.line < len(tasks):
        raise LayerwiseError(f"--line {options.line}: {options.file} has the runs 0 to {len(tasks) - 1}.")
    return run_one(tasks[options.line])


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before `--`, and what behind it."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:cut], arguments[cut + 1 :]


def read_tasks(file: Path, more: tuple[str, ...]) -> list[Task]:
    """The runs of a sweep file.

    Raises:
        LayerwiseError: it cannot be read, or holds none.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LayerwiseError(f"{file}: cannot be read ({error}).") from error
    tasks = [
        Task(f"{file}:{number}", line.strip(), more)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not tasks:
        raise LayerwiseError(f"{file}: holds no runs. Write one line of arguments for each run, such as k=3.")
    return tasks


def check(tasks: list[Task]) -> int:
    """Names the lines that layerwise train would refuse, and duplicate runs."""
    wrong, first = 0, dict[Path, str]()
    for task in tasks:
        try:
            folder = task.folder()
        except LayerwiseError as error:
            problem = str(error)
        else:
            if (known := first.setdefault(folder, task.place)) == task.place:
                continue
            problem = f"the same run as {known} ({folder})."
        wrong += 1
        print(f"{task.place}: {problem}", file=sys.stderr)
    print(f"{len(tasks)} runs, {wrong} of them wrong" if wrong else f"{len(tasks)} runs")
    return 1 if wrong else 0


def run_all(tasks: list[Task]) -> int:
    """Trains one run after another; what fails is said at once and again at the end."""
    failed = []
    for task in tasks:
        try:
            words = task.words()
            problem = run_process(["-m", "layerwise", "train", *words], ["layerwise", "train", *words])
        except LayerwiseError as error:
            problem = str(error)
        if problem is not None:
            failed.append(f"{task.place}: {problem}")
            print(failed[-1], file=sys.stderr, flush=True)
    print(f"{len(tasks)} runs: {len(tasks) - len(failed)} finished, {len(failed)} failed")
    for line in failed:
        print(f"  {line}")
    return 1 if failed else 0


def run_one(task: Task) -> int:
    """Trains one run in this process, so that signals reach it and torchrun can start it; returns the exit code."""
    print(f"{task.place}: {task.line}", file=sys.stderr, flush=True)
    try:
        words = task.words()
        with reported():
            train.main(words)
    except LayerwiseError as error:
        raise LayerwiseError(f"{task.place}: {error}") from error
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if 0 < code < 128:  # more: a signal stopped it, which is no failure
            print(f"{task.place}: failed with exit code {code}: {task.line}", file=sys.stderr)
        return code
    return 0
