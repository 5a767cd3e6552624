"""Errors at the terminal: one message and an exit code; a traceback for bugs only."""

from __future__ import annotations

import atexit
import errno
import io
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from layerwise.commands.conf_files import choices
from layerwise.config.keys import suggest_key
from layerwise.core.errors import Interrupted, LaunchError, LayerwiseError, LostProcess, suggest


@contextmanager
def reported() -> Iterator[None]:
    """Around a command: turns errors that the user can fix into a message and an exit code.

    `debug=true` among the arguments also shows their traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then passes errors on instead of printing and exiting
    _make_printable()
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, OSError) and (exit_code := _closed_output(error)):
            sys.exit(exit_code)
        known = explained(error)
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        if known is None or (wants_tracebacks() and not stopped):
            raise
        message, exit_code = known
        say(message if isinstance(error, KeyboardInterrupt) else f"error: {message}", concerns_all(error))
        if joined():
            end(exit_code, isinstance(error, LayerwiseError) and error.is_shared)
        sys.exit(exit_code)


def _make_printable() -> None:
    """Characters that a terminal's encoding lacks are written as escapes instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        lenient = ("backslashreplace", "surrogateescape" if "utf" in stream.encoding.lower() else "replace")
        if stream.errors not in lenient:
            stream.reconfigure(errors="backslashreplace")


def _closed_output(error: OSError) -> int | None:
    """If nothing more can be printed on stdout, such as in `| head -1`: says so, and gives the exit code."""
    if error.filename is not None or error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO):
        return None  # files are written with their names
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
    if error.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    say(f"error: the standard output cannot be written: {error.strerror}.")
    return 2


def loaded_processes() -> ModuleType | None:
    """`core.distributed` if it is loaded. It imports torch, which is slow; a command without it is one process."""
    return sys.modules.get("layerwise.core.distributed")


def joined() -> bool:
    """Whether this process has joined the other processes of its run."""
    processes = loaded_processes()
    return processes is not None and bool(processes.joined())


@contextmanager
def ended_without_python() -> Iterator[None]:
    """Around a command: a process that has left the others of its run ends here.

    Python's own end sometimes aborts in such a process (PyTorch 2.15, gloo, a busy machine: 2 of 25 runs), which has
    threads of PyTorch's that nobody waits for. Launchers then call a finished run failed.
    """
    exit_code = 0
    try:
        yield
    except SystemExit as error:
        if not _has_left() or not isinstance(error.code, int):
            raise
        exit_code = error.code
    if _has_left():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def _has_left() -> bool:
    processes = loaded_processes()
    return processes is not None and bool(processes.has_left())


def end(exit_code: int, together: bool) -> None:
    """Ends this process: after meeting the others, or at once, without leaving the process group."""
    if together:
        from layerwise.core import distributed

        with suppress(RuntimeError):  # one of them may be gone
            distributed.barrier()  # launchers kill all processes as soon as one ends; the main one may still be writing
        distributed.leave()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def wants_tracebacks() -> bool:
    """Whether `debug=true` is among the arguments."""
    return any(re.fullmatch(r"\+*debug=(true|1)", argument.lower()) for argument in sys.argv[1:])


def explained(error: BaseException) -> tuple[str, int] | None:
    """The message about an error that the user can fix, and the exit code; None for a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped. Everything saved is intact; the same command continues.", 130
    if isinstance(error, LayerwiseError):
        return str(error), error.exit_code
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error), 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}.", 2
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return f"{OUT_OF_MEMORY} Everything saved is intact.", 2
    if isinstance(error, RuntimeError) and (remedy := remedy_for(error)) is not None:
        return f"{remedy} Everything saved is intact.", 2
    return None


def concerns_all(error: BaseException) -> bool:
    """Whether all processes of the run meet this error, so that one message is enough."""
    if isinstance(error, LaunchError | RuntimeError):
        return False
    if isinstance(error, LostProcess | KeyboardInterrupt):
        return True
    if not joined():  # so far they have only read the same arguments
        return True
    return isinstance(error, LayerwiseError) and error.is_shared


def say(text: str, of_all: bool = True) -> None:
    """Prints a message on stderr: only in the main process if all processes have it, else with the rank."""
    number = os.environ.get("RANK", "0")
    if not of_all and number != "0":
        text = f"[rank {number} on {socket.gethostname()}] {text}"
    if not of_all or number == "0":
        print(text, file=sys.stderr)


OUT_OF_MEMORY = "out of memory. Use accumulate=2, a smaller batch_size or model.width, or cache=none."


def remedy_for(error: RuntimeError) -> str | None:
    """What to do about an error of PyTorch or submitit; None for a bug."""
    reason = str(error).strip().splitlines()[0]
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(
        error
    ):  # on a CPU only words say so
        return f"out of memory ({reason}). Use accumulate=2, a smaller batch_size or model.width, or cache=none."
    if "Storage size calculation overflowed" in reason or "numel: integer multiplication overflow" in reason:
        return OUT_OF_MEMORY
    if "DataLoader worker" in str(error):
        return (
            f"a process that decodes images died ({reason}). Reduce dataset.workers or batch_size; "
            "in a container, increase the shared memory (--shm-size)."
        )
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return f"compile=true: torch.compile failed ({reason}). Install a C++ compiler, or use compile=false."
    if type(error).__module__.startswith("submitit."):  # hydra/launcher=slurm: an error of sbatch, or a job's log
        lines = [line for line in str(error).splitlines() if line.strip(" -")]
        said = [line for line in lines if line.startswith("error: ")] or lines
        return f"a SLURM job failed: {'; '.join(dict.fromkeys((' '.join(lines[:2]), said[-1].rstrip('.'))))}."
    if 'detect "srun"' in reason:
        return "hydra/launcher=slurm: srun was not found. Run this on a login node of a SLURM cluster."
    return None


MISSING_PLUGINS = {
    "hydra/launcher/submitit_slurm": "hydra/launcher=slurm: needs a plugin: pip install hydra-submitit-launcher.",
    "hydra/sweeper/sampler/tpe": "hydra/sweeper=optuna: needs a plugin: pip install hydra-optuna-sweeper.",
}
"""By the file of a plugin that a file of conf/hydra builds on."""


def explain(error: Exception) -> str:
    """Hydra's message about a bad argument in one line, with the nearest known key or choice."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read the argument '{error.override}': {text.splitlines()[0]}. Write KEY=VALUE, lists as [1,2]."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        if error.missing_cfg_file in MISSING_PLUGINS:
            return MISSING_PLUGINS[error.missing_cfg_file]
        group, _, name = error.missing_cfg_file.rpartition("/")
        given = f"{group}={name}" if group else f"--config-name {name}"
        return f"{given}: unknown choice.{suggest(name, error.options or choices(group))}"
    if unknown := re.match(r"Could not override '([^']+)'\.\s+To append", text):
        return f"unknown key '{unknown[1]}'.{suggest_key(unknown[1])}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip()) or type(error).__name__
