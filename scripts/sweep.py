"""Runs a sweep: a file with one line of arguments of train.py for each run.

    python scripts/sweep.py FILE                  all lines, one after another, on this machine
    python scripts/sweep.py FILE -- KEY=VALUE …   with further arguments for each line, such as output_dir=FOLDER
    python scripts/sweep.py FILE --check          trains nothing: names wrong lines and runs that stand there twice
    python scripts/sweep.py FILE --count          the number of runs
    python scripts/sweep.py FILE --line 3         the fourth of them alone: for job arrays (slurm/sweep.sbatch)

A line is quoted as in a shell; blank lines, and lines that begin with #, are none. A line that fails is named at once
and the others still run; the exit code is then 1 (of --line: train.py's). Finished runs return at once and stopped
ones go on, so the same command again continues a sweep.
"""

from __future__ import annotations

import argparse
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from _runs import ROOT, call_script, configuration
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from layerwise.commands.errors import explain, reported
from layerwise.config.build import build_spec
from layerwise.config.parse import run_name
from layerwise.core.errors import LayerwiseError


@dataclass(frozen=True)
class Task:
    """One run of a sweep.

    Attributes:
        place: `FILE:12`, where it stands.
        line: its text.
        more: arguments that every run of the sweep is given.
    """

    place: str
    line: str
    more: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The arguments for train.py.

        Raises:
            LayerwiseError: the quotation marks do not match.
        """
        try:
            return [*shlex.split(self.line), *self.more]
        except ValueError as error:
            raise LayerwiseError(f"cannot read '{self.line}': {str(error).lower()}.") from error

    def folder(self) -> Path:
        """The run folder, of a configuration that train.py would begin with.

        Raises:
            LayerwiseError: what train.py would say.
        """
        try:
            config = configuration(self.words())
        except (HydraException, OmegaConfBaseException) as error:
            raise LayerwiseError(explain(error)) from error
        build_spec(config)
        return Path(config.output_dir) / run_name(config)


def main() -> int:
    own, more = split_arguments(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="a line of arguments for each run")
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
        raise LayerwiseError(f"{file}: holds no runs. Write a line of arguments of train.py for each, such as k=3.")
    return tasks


def check(tasks: list[Task]) -> int:
    """Names the lines that train.py would refuse, and those whose run stands there already."""
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
            problem = call_script(ROOT / "train.py", task.words())
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
    """Trains one run in this process, which signals reach and torchrun may have started; train.py's exit code."""
    print(f"{task.place}: {task.line}", file=sys.stderr, flush=True)
    try:
        sys.argv = [str(ROOT / "train.py"), *task.words()]
        runpy.run_path(sys.argv[0], run_name="__main__")
    except LayerwiseError as error:
        raise LayerwiseError(f"{task.place}: {error}") from error
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if 0 < code < 128:  # more: a signal stopped it, which is no failure
            print(f"{task.place}: failed with exit code {code}: {task.line}", file=sys.stderr)
        return code
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main())
