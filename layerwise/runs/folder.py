"""The folder of a run: the same configuration always has the same one, and one run at a time.

The main process of a run reads and writes it; the others hear what it found, and share its errors.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import IO, Any

from layerwise.config.identity import differences, run_name, run_stem
from layerwise.config.overrides import train_command
from layerwise.config.parse import from_yaml, to_yaml
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.config.schema import CacheKind
from layerwise.core.distributed import from_main, host, in_main, rank, ranks, together
from layerwise.core.errors import LayerwiseError, writing
from layerwise.core.files import write_atomically
from layerwise.data.dataset import DatasetSpec

CONFIG, SPEC, METRICS, RESULTS = "config.yaml", "dataset.json", "metrics.jsonl", "results.json"
REPORT, COMMAND = "report.html", "command.txt"
CHECKPOINTS, CACHE, SEARCH, LOCK = "checkpoints", "cache", "search", ".lock"

OLD_DIGITS = 8
"""Hexadecimal digits at the end of a folder's name, in versions that hashed all keys and not those that were chosen."""

LOOK_SECONDS = 1.0
"""So long a lock may be somebody's who only looks (`in_use`)."""


class RunFolder:
    """An opened, locked run folder.

    Args:
        config: the resolved configuration; its `output_dir` and name say where.

    Raises:
        LayerwiseError: the folder cannot be made, is no run folder, holds another configuration's run, or is in use.
    """

    def __init__(self, config: ResolvedConfig) -> None:
        self.path = from_main(lambda: run_path(config))
        self.config = config
        self._begun = False
        self._lock: IO[str] | None = None
        from_main(self._open)

    def begin(self, spec: DatasetSpec) -> None:
        """Records what will run. The first time, with `fresh`, deletes the earlier run: everything else
        has been checked.

        Args:
            spec: of the data set, kept so that the trained network can be used without it.

        Raises:
            LayerwiseError: the run began with other data, or the folder cannot be written.
        """
        from_main(lambda: self._begin(spec))
        together(self._prepare_cache)
        from_main(lambda: self._write_config(spec))

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def cache(self) -> Path:
        """Where this process's disk cache lies: in the run folder, or below `cache.dir` under a name of its own."""
        base = self.path / CACHE
        if self.config.cache.dir is not None:
            digest = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]
            base = Path(self.config.cache.dir) / f"{self.path.name}-{digest}"
        return base / f"rank_{rank()}_of_{ranks()}"

    @in_main
    def check_searched(self, depth: int) -> None:
        """Refuses to go on with stages of another depth than the search has found.

        Raises:
            LayerwiseError: the search was run again and found another depth.
        """
        try:
            known = json.loads((self.path / RESULTS).read_text())["search"]["block"]
        except (OSError, ValueError, KeyError):
            return
        if known != depth:
            raise LayerwiseError(
                f"{self.path}: the search found depth {depth} now, but depth {known} was begun. "
                "Start over with fresh=true."
            )

    @in_main
    def finished_results(self) -> dict[str, Any] | None:
        """The results of a completed run, else None."""
        try:
            results = json.loads((self.path / RESULTS).read_text())
        except (OSError, ValueError):
            return None
        return results if results.get("status") == "completed" else None

    def close(self) -> None:
        """Lets other runs use the folder; one in which nothing was begun goes."""
        if self._lock is None:
            return
        if [entry.name for entry in self.path.iterdir()] == [LOCK]:
            (self.path / LOCK).unlink()
            self.path.rmdir()
        self._lock.close()

    def _open(self) -> None:
        with writing(self.path, kept="Nothing was started."):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / LOCK, "a+")  # noqa: SIM115 (held until the process ends)
        self._acquire(lock)
        self._lock = lock
        if (self.path / CONFIG).exists():
            self._refuse_other()
        elif foreign := [entry.name for entry in self.path.iterdir() if entry.name != LOCK]:
            raise LayerwiseError(
                f"{self.path} is no run folder: it holds {foreign[0]} and no {CONFIG}. Give this run another name=…."
            )

    def _begin(self, spec: DatasetSpec) -> None:
        if self.config.fresh and not self._begun:
            self._clear()
        self._begun = True
        check_data(self.path, spec)

    def _write_config(self, spec: DatasetSpec) -> None:
        write_atomically(self.path / CONFIG, to_yaml(self.config), kept="Nothing was started.")
        write_atomically(self.path / SPEC, spec.to_json(), kept="Nothing was started.")
        if not (self.path / COMMAND).exists() and (command := train_command()) is not None:
            write_atomically(self.path / COMMAND, f"{command}\n", kept="Nothing was started.")

    def _prepare_cache(self) -> None:
        """Makes this process's folder for a disk cache, and removes what other numbers of processes left."""
        for other in self.cache.parent.glob("rank_*_of_*"):
            shard, number = (int(part) for part in other.name.removeprefix("rank_").split("_of_"))
            if number != ranks() and shard % ranks() == rank():
                shutil.rmtree(other, ignore_errors=True)
        if self.config.cache.kind is not CacheKind.disk:
            return
        if self.config.cache.dir is None and not (self.path / LOCK).exists():
            raise LayerwiseError(
                f"cache=disk: {host()} does not see {self.path.resolve()}, where the main process keeps the run and "
                "the cache lies. Use an output_dir on a disk that all machines share, or cache.dir=FOLDER on a disk "
                "of each machine."
            )
        with writing(self.cache, kept="Nothing was started."):
            self.cache.mkdir(parents=True, exist_ok=True)

    def _acquire(self, lock: IO[str]) -> None:
        started = time.monotonic()
        while True:
            try:
                # the kernel drops the lock when the process ends, however it ends: no lock outlives its run
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() - started < LOOK_SECONDS:
                    time.sleep(LOOK_SECONDS / 20)
                    continue
                lock.seek(0)
                raise LayerwiseError(
                    f"{self.path} is in use by process {lock.read().strip() or '?'}. "
                    "Wait for it or stop it, or give this run another name=…."
                ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()} on {host()}")
        lock.flush()

    def _clear(self) -> None:
        shutil.rmtree(self.cache.parent, ignore_errors=True)
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()

    def _refuse_other(self) -> None:
        if self.config.fresh:
            return
        there = resolve(from_yaml(self.path / CONFIG))
        different = [f"{key}: {held} there, {wanted} here" for key, held, wanted in differences(there, self.config)]
        if different:
            raise LayerwiseError(
                f"{self.path} holds the run of another configuration ({'; '.join(different)}). "
                "Give this run another name=…, or start over in that folder with fresh=true (its content is deleted)."
            )


def run_path(config: ResolvedConfig) -> Path:
    """The folder of a configuration's run: of an earlier version's naming if there is one, else of today's."""
    path = Path(config.output_dir) / run_name(config)
    if config.name is None and not path.exists():
        for old in sorted(path.parent.glob(f"{glob.escape(run_stem(config))}-{'[0-9a-f]' * OLD_DIGITS}")):
            if _holds(old, config):
                return old
    return path


def _holds(folder: Path, config: ResolvedConfig) -> bool:
    """Whether a folder holds the run of a configuration; a damaged one is not asked."""
    try:
        return not any(differences(resolve(from_yaml(folder / CONFIG)), config))
    except LayerwiseError:
        return False


def check_data(folder: Path, spec: DatasetSpec) -> None:
    """Refuses data that are not those that a run began with.

    Args:
        folder: of the run; one that has not begun takes all.

    Raises:
        LayerwiseError: the number of samples, their shape, the classes, or a table's content differ.
    """
    try:
        known = DatasetSpec.from_json((folder / SPEC).read_text())
    except (OSError, ValueError, TypeError):
        return
    if not known.agrees_with(spec):
        raise LayerwiseError(
            f"dataset={spec.name}: the data are not those that {folder} began with "
            f"({known.in_words()} there, {spec.in_words()} now). Restore them, give this run another name=…, "
            "or start over with fresh=true."
        )


def in_use(folder: Path) -> bool:
    """Whether a process works in a run folder now."""
    try:
        with open(folder / LOCK) as lock:  # a shared lock, let go at once, so that two who look do not see each other
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # none, or not ours to read
        return False
    return False
