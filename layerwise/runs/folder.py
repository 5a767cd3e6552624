"""The folder of a run: the same configuration always has the same one, and one run at a time.

The main process of a run reads and writes it; the others hear what it found, and share its errors.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from layerwise.config.groups.data import CacheKind
from layerwise.config.identity import differences, run_name, run_stem
from layerwise.config.overrides import train_command
from layerwise.config.parse import from_yaml, to_yaml
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.distributed import from_main, host, in_main, rank, ranks, together
from layerwise.core.errors import LayerwiseError, writing
from layerwise.core.files import write_atomically
from layerwise.data.dataset import DatasetSpec
from layerwise.runs.code_check import code_of
from layerwise.runs.data_check import Listing, check_data, keep_listing
from layerwise.runs.origin import Origin
from layerwise.runs.run_files import (
    CACHE,
    CHECKPOINTS,
    CODE,
    COMMAND,
    CONFIG,
    LOCK,
    RESULTS,
    SPEC,
    DamagedRunFile,
    read_results,
    sealed,
)

OLD_DIGITS = 8
"""Hexadecimal digits at the end of a folder's name, in versions that hashed all keys and not those that were chosen."""

NOTHING_STARTED = "Nothing was started."

LOOK_SECONDS = 1.0
"""So long a lock may be somebody's who only looks (`in_use`)."""


class RunFolder:
    """An opened, locked run folder. One that cannot be written is opened without a lock, to show a finished run.

    Args:
        config: the resolved configuration; its `output_dir` and name say where.
        spec: of the data set, as far as it is known before the data are read.

    Raises:
        LayerwiseError: the folder cannot be made, is no run folder, holds another configuration's run, or is in use.
    """

    def __init__(self, config: ResolvedConfig, spec: DatasetSpec) -> None:
        self.path = from_main(lambda: run_path(config))
        self.config = config
        self.origin = Origin.of(config, spec)
        self.unwritable: OSError | None = None
        self._begun = False
        self._lock: IO[str] | None = None
        from_main(self._open)

    def begin(self, spec: DatasetSpec, listing: Listing) -> None:
        """Records what will run. The first time, with `fresh`, deletes the earlier run: everything else
        has been checked.

        Args:
            spec: of the data set, kept so that the trained network can be used without it.
            listing: of its files or samples, kept to say what was changed.

        Raises:
            LayerwiseError: the run began with other data, or the folder cannot be written.
        """
        self.origin = Origin.of(self.config, spec)
        from_main(lambda: self._begin(spec, listing))
        together(self._prepare_cache)
        from_main(lambda: self._write_config(spec, listing))

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
        known = (self._results() or {}).get("search", {}).get("block")
        if known is not None and known != depth:
            raise LayerwiseError(
                f"{self.path}: the search found depth {depth} now, but depth {known} was begun. "
                "Start over with fresh=true."
            )

    @in_main
    def finished_results(self) -> dict[str, Any] | None:
        """Returns the results of a completed run, else None.

        Raises:
            LayerwiseError: they are of another run.
        """
        results = self._results()
        return results if results is not None and results["status"] == "completed" else None

    def _results(self) -> dict[str, Any] | None:
        try:
            results = read_results(self.path / RESULTS)
        except DamagedRunFile as error:
            print(f"warning: {error}", file=sys.stderr)  # this is that command
            return None
        if results is not None:
            self.origin.check(self.path / RESULTS, results.get("origin"))
        return results

    def tidy(self) -> None:
        """Removes what a process that was killed has left: files half written, and features half stored."""
        if self.unwritable is None:
            from_main(self._tidy)

    def _tidy(self) -> None:
        for path in [*self.path.glob("*.part"), *self.path.glob("*/*.part")]:
            with writing(path, "The run is intact."):
                path.unlink(missing_ok=True)
        for path in self.cache.parent.glob("rank_*_of_*/x*.partial"):
            shutil.rmtree(path, ignore_errors=True)

    def drop_cache(self) -> None:
        """Removes this process's disk cache when no stage is left that reads it, unless it is to be kept."""
        if self.unwritable is None and not self.config.cache.keep:
            shutil.rmtree(self.cache, ignore_errors=True)
            with suppress(OSError):  # there was none, or other processes have their stores there
                self.cache.parent.rmdir()

    def check_present(self) -> None:
        """Refuses to write into a folder that is no longer this run's. Not collective.

        Raises:
            LayerwiseError: the folder was deleted, moved or replaced.
        """
        if self._lock is None:
            return
        held = os.fstat(self._lock.fileno())
        try:
            there = (self.path / LOCK).stat()
        except FileNotFoundError:
            there = None
        if there is None or (held.st_ino, held.st_dev) != (there.st_ino, there.st_dev):
            raise LayerwiseError(
                f"{self.path}: the run folder was deleted, moved or replaced while the run wrote to it. Nothing more "
                "is written. To go on, put it back and give the command again; without it, the command starts over."
            )

    def close(self) -> None:
        """Lets other runs use the folder; one in which nothing was begun goes."""
        if self._lock is None:
            return
        with suppress(OSError):  # the folder is gone, or cannot be written any more
            if [entry.name for entry in self.path.iterdir()] == [LOCK]:
                (self.path / LOCK).unlink()
                self.path.rmdir()
        self._lock.close()

    def _open(self) -> None:
        with writing(self.path, NOTHING_STARTED):
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(self.path / LOCK, "a+")  # noqa: SIM115 (held until the process ends)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or not (self.path / CONFIG).exists():
                with writing(self.path / LOCK, NOTHING_STARTED):
                    raise
            self.unwritable = error
        else:
            self._acquire(lock)
            self._lock = lock
        if (self.path / CONFIG).exists():
            self._refuse_other()
        elif foreign := [entry.name for entry in self.path.iterdir() if not _is_beginning(entry)]:
            raise LayerwiseError(
                f"{self.path} is no run folder: it holds {foreign[0]} and no {CONFIG}. Give this run another name=…."
            )

    def _begin(self, spec: DatasetSpec, listing: Listing) -> None:
        if self.unwritable is not None:
            with writing(self.path, NOTHING_STARTED):
                raise self.unwritable
        if self.config.fresh and not self._begun:
            self._clear()
        self._begun = True
        self._tidy()
        check_data(self.path, spec, listing)

    def _write_config(self, spec: DatasetSpec, listing: Listing) -> None:
        """Writes the configuration first: with it, all else in the folder is known to be the run's."""
        self._write(CONFIG, to_yaml(self.config))
        if self.config.outside and not (self.path / CODE).exists():
            self._write(CODE, json.dumps(sealed(code_of(self.config)), indent=1))
        self._write(SPEC, json.dumps(sealed(json.loads(spec.to_json())), indent=1))
        keep_listing(self.path, listing, NOTHING_STARTED)
        if not (self.path / COMMAND).exists() and (command := train_command()) is not None:
            self._write(COMMAND, f"{command}\n")
        with writing(self.checkpoints, NOTHING_STARTED):
            self.checkpoints.mkdir(exist_ok=True)

    def _write(self, name: str, text: str) -> None:
        write_atomically(self.path / name, text, NOTHING_STARTED, makes_folder=False)

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
        with writing(self.cache, NOTHING_STARTED):
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
        with writing(self.path / LOCK, NOTHING_STARTED):
            lock.seek(0)
            lock.truncate()
            lock.write(f"{os.getpid()} on {host()}")
            lock.flush()

    def _clear(self) -> None:
        """Deletes an earlier run, its configuration last: without it the rest would be no run's."""
        shutil.rmtree(self.cache.parent, ignore_errors=True)
        for entry in sorted(self.path.iterdir(), key=lambda entry: (entry.name == CONFIG, entry.name != RESULTS)):
            with writing(entry, "The run in the folder is partly deleted."):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != LOCK:
                    entry.unlink()

    def _refuse_other(self) -> None:
        if self.config.fresh:
            self._check_is_run()
            return
        there = resolve(from_yaml(self.path / CONFIG))
        different = [f"{key}: {held} there, {wanted} here" for key, held, wanted in differences(there, self.config)]
        if different:
            raise LayerwiseError(
                f"{self.path} holds the run of another configuration ({'; '.join(different)}). "
                "Give this run another name=…, or start over in that folder with fresh=true (its content is deleted)."
            )

    def _check_is_run(self) -> None:
        """Refuses to delete what is no run: other programs, too, have files of the name config.yaml."""
        if (self.path / SPEC).exists():  # with it, a damaged configuration is that of a run
            return
        try:
            resolve(from_yaml(self.path / CONFIG))
        except LayerwiseError as error:
            raise LayerwiseError(
                f"{self.path} is no run folder: its {CONFIG} is not of layerwise, and fresh=true would delete all that "
                "is in it. Give this run another name=…, or empty the folder yourself."
            ) from error


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


def _is_beginning(entry: Path) -> bool:
    """Returns whether a process that was killed before it wrote its configuration leaves such an entry."""
    if entry.name == CACHE:
        return all(fnmatch(below.name, "rank_*_of_*") for below in entry.iterdir())
    return entry.name in (LOCK, f"{CONFIG}.part")


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
