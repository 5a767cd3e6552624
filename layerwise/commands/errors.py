"""How errors reach the terminal: one message and an exit code, with a traceback only for bugs."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from types import ModuleType

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from layerwise.config.keys import suggest_key
from layerwise.config.schema import LoggerConfig
from layerwise.core.errors import Interrupted, LaunchError, LayerwiseError, LostProcess, suggest


@contextmanager
def reported() -> Iterator[None]:
    """Runs a command's body and turns errors that the user can mend into a message and an exit code.

    `debug=true` among the arguments shows the traceback of these errors, too.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then passes errors on instead of printing and exiting
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        known = explained(error)
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        if known is None or (wants_tracebacks() and not stopped):
            raise
        message, exit_code = known
        say(message if isinstance(error, KeyboardInterrupt) else f"error: {message}", concerns_all(error))
        if joined():
            end(exit_code, isinstance(error, LayerwiseError) and error.is_shared)
        sys.exit(exit_code)


def loaded_processes() -> ModuleType | None:
    """`core.distributed` if it is loaded. It imports torch, which is slow; a command without it is one process."""
    return sys.modules.get("layerwise.core.distributed")


def joined() -> bool:
    """Whether this process has joined the other processes of its run."""
    processes = loaded_processes()
    return processes is not None and bool(processes.joined())


def end(exit_code: int, together: bool) -> None:
    """Ends one of several processes: with the others, or without a word to those that may wait for it."""
    if together:
        from layerwise.core import distributed

        with suppress(RuntimeError):  # one of them may be gone
            distributed.barrier()  # launchers end all processes as soon as one has ended; the main one has more to do
        distributed.leave()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def wants_tracebacks() -> bool:
    """Whether `debug=true` is among the arguments."""
    return any(re.fullmatch(r"\+*debug=(true|1)", argument.lower()) for argument in sys.argv[1:])


def explained(error: BaseException) -> tuple[str, int] | None:
    """The message about an error that the user can mend, and the exit code; None: it is a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped. What was saved before is intact; run the same command again to go on.", 130
    if isinstance(error, LayerwiseError):
        return str(error), error.exit_code
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error), 2
    if isinstance(error, ValueError) and "Config group override" in str(error):  # Hydra's for `model=null`
        return "a group is set to null: choose one of its files, such as model=simcnn.", 2
    if isinstance(error, RuntimeError) and (remedy := remedy_for(error)) is not None:
        return f"{remedy} What was saved before is intact.", 2
    return None


def concerns_all(error: BaseException) -> bool:
    """Whether all processes of the run have the same to say."""
    if isinstance(error, LaunchError | RuntimeError):
        return False
    if isinstance(error, LostProcess | KeyboardInterrupt):
        return True
    if not joined():  # before they meet they read the same arguments
        return True
    return isinstance(error, LayerwiseError) and error.is_shared


def say(text: str, of_all: bool = True) -> None:
    """Prints a message on stderr: the main process one that concerns all processes of the run, else each its own."""
    number = os.environ.get("RANK", "0")
    if not of_all and number != "0":
        text = f"[rank {number} on {socket.gethostname()}] {text}"
    if not of_all or number == "0":
        print(text, file=sys.stderr)


def remedy_for(error: RuntimeError) -> str | None:
    """What to do about a failure of PyTorch itself, or None: it is a bug."""
    reason = str(error).strip().splitlines()[0]
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(
        error
    ):  # on a CPU only words say so
        return f"out of memory ({reason}). Use a smaller batch_size or model.width, or cache=none."
    if "DataLoader worker" in str(error):
        return (
            f"a process that decodes images ended ({reason}). Use fewer (dataset.workers), or a smaller batch_size; "
            "in a container, more shared memory (--shm-size)."
        )
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return f"compile=true: torch.compile failed ({reason}). It needs a C++ compiler; or use compile=false."
    if type(error).__module__.startswith("submitit."):  # hydra/launcher=slurm: of sbatch, or a job's log
        lines = [line for line in str(error).splitlines() if line.strip(" -")]
        said = [line for line in lines if line.startswith("error: ")] or lines
        return f"a SLURM job failed: {'; '.join(dict.fromkeys((' '.join(lines[:2]), said[-1].rstrip('.'))))}."
    if 'detect "srun"' in reason:
        return "hydra/launcher=slurm: no srun here; start it on a machine that submits jobs to a SLURM cluster."
    return None


def explain(error: Exception) -> str:
    """Hydra's message about a bad argument in one line, with the nearest known key or choice."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read the argument '{error.override}': {text.splitlines()[0]}. Write KEY=VALUE, lists as [1,2]."
    if unknown := re.search(r"Could not override '([^']+)'\.(?=\s+(To append|No match))", text):
        return f"unknown key '{unknown[1]}'.{suggest_key(unknown[1])}"
    if "'hydra/launcher/submitit_slurm'" in text:  # conf/hydra/launcher/slurm.yaml is ours, its base is the plugin's
        return 'hydra/launcher=slurm: its plugin is missing: pip install -e ".[slurm]".'
    if "'hydra/sweeper/sampler/tpe'" in text:  # conf/hydra/sweeper/optuna.yaml is ours, its samplers are the plugin's
        return "hydra/sweeper=optuna: its plugin is missing: pip install 'hydra-optuna-sweeper>=1.2'."
    if missing := re.search(r"Could not load 'logger/([^']+)'", text):  # of a list; Hydra does not say what there is
        known = ["none", *(entry.name for entry in fields(LoggerConfig))]
        return f"logger={missing[1]}: unknown choice.{suggest(missing[1], known)}"
    if missing := re.search(r"Could not find '([^']+)/([^']+)'", text):
        known = re.findall(r"^\t([\w-]+)\s*$", text, re.MULTILINE)
        return f"{missing[1]}={missing[2]}: unknown choice.{suggest(missing[2], known)}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip()) or type(error).__name__
