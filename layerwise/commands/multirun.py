"""`--multirun`: a job that fails is named at once, the others go on, and the end says which have failed.

Hydra gives what the jobs return to its sweeper alone, and the sweeper raises the first failure and hides the others.
So a failed job returns a `Failure` instead of raising, and the launcher is watched for them. A return also comes
back from launchers that run jobs in other processes or on other machines.

A sweeper other than Hydra's own (`hydra/sweeper=optuna`) searches: it maximises what the jobs return, their
validation accuracy. There a loss that diverges is an ordinary outcome, and does not make the search fail.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from layerwise.commands.errors import concerns_all, end, explain, explained, joined, reported, say, wants_tracebacks
from layerwise.core.errors import Interrupted, LaunchError, LayerwiseError, LostProcess, NonFiniteLoss

BEST = "optimization_results.yaml"
"""Where the sweepers that search write what they found, in the folder of the sweep."""


@dataclass(frozen=True)
class Failure:
    """What a failed job returns: only text, which travels between processes and keeps no tensor alive."""

    number: int
    overrides: tuple[str, ...]
    reason: str
    diverged: bool

    @property
    def job(self) -> str:
        """`#1 (k=2)`: its number as Hydra counts, and its arguments but for those that the command line gives all."""
        given = {word.lower() for word in sys.argv}  # Hydra writes False for false
        own = [word for word in self.overrides if word.lower() not in given] or self.overrides
        return f"#{self.number} ({', '.join(own)})"


def run_job(run: Callable[[DictConfig], float | None], composed: DictConfig) -> float | Failure | None:
    """A job of Hydra's: alone, an error ends the command; in a multirun it ends this job.

    A signal ends the command in both, and so does what only some of several processes run into.

    Args:
        run: does what a configuration asks for.
        composed: the job's configuration.

    Returns:
        what `run` returns, or why it failed.
    """
    hydra = HydraConfig.get()
    with reported():  # here, not only around Hydra, which would print a line of its own about the failed job
        try:
            return run(composed)
        except Exception as error:
            if hydra.mode is not RunMode.MULTIRUN or isinstance(error, Interrupted):
                raise
            failure = _failure(hydra, error)
            if ends_all_jobs(error):  # Hydra would go on after an exception
                exit_code = error.exit_code if isinstance(error, LayerwiseError) else 1
                if joined():
                    end(exit_code, together=False)
                sys.exit(exit_code)
            return failure


def ends_all_jobs(error: Exception) -> bool:
    """Whether no further job can run: the processes of the run have not met, or no longer do the same."""
    parted = joined() and not concerns_all(error)
    return parted or isinstance(error, LaunchError | LostProcess)


def _failure(hydra: Any, error: Exception) -> Failure:
    """Prints why a job failed; of a bug the traceback, too."""
    known = explained(error)
    if known is None or wants_tracebacks():
        traceback.print_exception(error)
    reason = known[0] if known else traceback.format_exception_only(error)[-1].strip()
    failure = Failure(hydra.job.num, tuple(hydra.overrides.task), reason, isinstance(error, NonFiniteLoss))
    say(f"job {failure.job} failed: {reason}", concerns_all(error))
    return failure


@dataclass
class Multirun:
    """The jobs of a command so far; none if it is a single run.

    Attributes:
        config: as composed without the sweep's own values, once the sweeper has its launcher.
        jobs: number of jobs that ended.
        failures: those of them that failed.
    """

    config: DictConfig | None = None
    jobs: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def searches(self) -> bool:
        return self.config is not None and not self.config.hydra.sweeper._target_.endswith(".BasicSweeper")

    @property
    def found_nothing(self) -> bool:
        return self.jobs > 0 and len(self.failures) == self.jobs

    @property
    def failed(self) -> bool:
        """Whether the command fails: a search does not by trials that diverged."""
        return self.found_nothing or any(not (self.searches and failure.diverged) for failure in self.failures)

    def summary(self) -> str:
        heading = f"{len(self.failures)} of {self.jobs} jobs failed:"
        return "\n".join([heading, *(f"  {failure.job}: {failure.reason}" for failure in self.failures)])


class WatchedLauncher(Launcher):
    """A launcher that is set up, with the failures of its jobs noted. To the sweeper they have returned None: Hydra's
    own goes on to its next batch then, and Optuna counts a failed trial."""

    def __init__(self, launcher: Launcher, hydra_context: HydraContext, config: DictConfig, multirun: Multirun) -> None:
        self._launcher = launcher
        self._loader = hydra_context.config_loader
        self._config = config
        self._multirun = multirun

    def setup(self, **parts: Any) -> None:
        """Nothing: the launcher is set up already."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self._multirun.searches:
            for overrides in job_overrides:
                _check_trial(self._loader.load_sweep_config(self._config, list(overrides)))
        returns = self._launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        self._multirun.jobs += len(returns)
        for returned in returns:
            if isinstance(returned.return_value, Failure):
                self._multirun.failures.append(returned.return_value)
                returned.return_value = None
        return returns


def _check_trial(composed: DictConfig) -> None:
    """Refuses what would train a whole search and give it nothing to choose by."""
    if not composed.dataset.validation and composed.dataset.folds is None:
        raise LayerwiseError(
            "a search maximises validation accuracy, and no samples are held out: dataset.validation=0.1 holds out "
            "a tenth of the training samples."
        )
    if composed.summary != "none":
        raise LayerwiseError(f"summary={composed.summary}: a search needs runs that train. Leave it out.")


def _check_storage(config: DictConfig) -> None:
    """The sweeper's Optuna (2.10) makes no data base with newer libraries: it ends in an assertion."""
    if config.hydra.sweeper.get("storage") and int(version("sqlalchemy").split(".")[0]) >= 2:
        raise LayerwiseError(
            "hydra.sweeper.storage: Optuna 2 needs older libraries for it: pip install 'sqlalchemy<2' 'alembic<1.14'. "
            "Or leave it out: the same command takes up a search again."
        )


@contextmanager
def watched_jobs() -> Iterator[None]:
    """Around a call of Hydra's main function: names the failed jobs of a multirun at the end, and a search's best.

    Raises:
        LayerwiseError: the jobs were refused before the first began.
        SystemExit: jobs failed; the code is 1.
    """
    multirun = Multirun()
    plugins = Plugins.instance()
    instantiate = plugins.instantiate_launcher
    # Hydra refuses a file and a plugin's configuration of the same name; the file, in conf, maximises
    ConfigStore.instance().repo["hydra"]["sweeper"].pop("optuna.yaml", None)

    def watched(*, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
        launcher = instantiate(hydra_context=hydra_context, task_function=task_function, config=config)
        _check_storage(config)
        multirun.config = config
        return WatchedLauncher(launcher, hydra_context, config, multirun)

    plugins.instantiate_launcher = watched  # type: ignore  # Hydra has no hook that sees all returns
    try:
        yield
    except HydraException as error:
        if multirun.config is None or multirun.jobs:
            raise
        message = explain(error)
        raise LayerwiseError(f"{message}{'' if message[-1] in '.?' else '.'} No job was started.") from error
    except ValueError:
        if not (multirun.searches and multirun.found_nothing):  # Optuna's, where no trial is the best
            raise
    finally:
        plugins.instantiate_launcher = instantiate  # type: ignore[method-assign]
        if multirun.failures:
            say(multirun.summary())
    if multirun.searches and not multirun.found_nothing and os.environ.get("RANK", "0") == "0":
        _show_best(multirun)
    if multirun.failed:
        sys.exit(1)


def _show_best(multirun: Multirun) -> None:
    """The best trial of Optuna's, with the arguments that train it; of another search, or of several aims, where it
    stands."""
    assert multirun.config is not None
    path = Path(multirun.config.hydra.sweep.dir) / BEST
    best = OmegaConf.load(path)
    if "best_params" in best:
        words = " ".join(f"{key}={value}" for key, value in best.best_params.items())
        print(f"best trial: {words}, validation {best.best_value:.2f} %")
    print(f"search: {path}")
