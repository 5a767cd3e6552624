"""`--multirun`: a failed job is named at once, the other jobs run, and a summary names all failures at the end.

Hydra passes what jobs return to its sweeper alone, which raises the first failure and hides the others. So a failed
job returns a `Failure` instead of raising, and the launcher is watched for them: returns also come back from launchers
that run jobs on other machines.

Sweepers other than Hydra's own (`hydra/sweeper=optuna`) search: they maximise what the jobs return, the validation
accuracy. There, a diverging loss is an ordinary outcome that does not make the search fail.
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

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from layerwise.commands import trials
from layerwise.commands.errors import concerns_all, end, explain, explained, joined, reported, say, wants_tracebacks
from layerwise.config.plans.greedy import GreedyConfig
from layerwise.core.errors import Interrupted, LaunchError, LayerwiseError, LostProcess, NonFiniteLoss, one_line

BEST = "optimization_results.yaml"
"""The file in the sweep's folder to which searching sweepers write their result."""


@dataclass(frozen=True)
class Failure:
    """What a failed job returns: plain text, which can be pickled and keeps no tensor alive."""

    number: int
    overrides: tuple[str, ...]
    reason: str
    diverged: bool

    @property
    def job(self) -> str:
        """`#1 (k=2)`: Hydra's number of the job, and the arguments that differ between jobs."""
        given = {word.lower() for word in sys.argv}  # Hydra writes False for false
        own = [word for word in self.overrides if word.lower() not in given] or self.overrides
        return f"#{self.number} ({', '.join(own)})"


def run_job(run: Callable[[DictConfig], float | None], composed: DictConfig) -> float | Failure | None:
    """Runs one job of Hydra. In a multirun, an error ends this job only.

    A signal ends the command, and so does an error that only some of several processes meet.

    Args:
        run: trains, or shows, the run of a configuration.
        composed: the job's configuration.

    Returns:
        what `run` returns, or why it failed.
    """
    hydra = HydraConfig.get()
    with reported():  # here as well as around Hydra, which would print its own line about the failed job
        try:
            return run(composed)
        except Exception as error:
            if hydra.mode is not RunMode.MULTIRUN or isinstance(error, Interrupted):
                raise
            failure = _failure(hydra, error)
            if ends_all_jobs(error):  # after an exception Hydra would continue
                exit_code = error.exit_code if isinstance(error, LayerwiseError) else 1
                if joined():
                    end(exit_code, together=False)
                sys.exit(exit_code)
            return failure


def ends_all_jobs(error: Exception) -> bool:
    """Whether no further job can run: the processes have not met, or are no longer in step."""
    parted = joined() and not concerns_all(error)
    return parted or isinstance(error, LaunchError | LostProcess)


def _failure(hydra: Any, error: Exception) -> Failure:
    """Prints why a job failed, with the traceback of a bug."""
    known = explained(error)
    if known is None or wants_tracebacks():
        traceback.print_exception(error)
    reason = known[0] if known else traceback.format_exception_only(error)[-1].strip()
    failure = Failure(hydra.job.num, tuple(hydra.overrides.task), reason, isinstance(error, NonFiniteLoss))
    say(f"job {failure.job} failed: {reason}", concerns_all(error))
    return failure


@dataclass
class Multirun:
    """The jobs of a command so far; none in a single run.

    Attributes:
        config: composed without the swept values; None until the sweeper has its launcher.
        jobs: number of jobs that ended.
        trained: configurations of those that trained, or had trained before.
    """

    config: DictConfig | None = None
    jobs: int = 0
    trained: list[DictConfig] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def searches(self) -> bool:
        return self.config is not None and not self.config.hydra.sweeper._target_.endswith(".BasicSweeper")

    @property
    def found_nothing(self) -> bool:
        return self.jobs > 0 and len(self.failures) == self.jobs

    @property
    def failed(self) -> bool:
        """Whether the command fails. Diverged trials do not make a search fail."""
        return self.found_nothing or any(not (self.searches and failure.diverged) for failure in self.failures)

    def watch(self, launcher: Launcher, loader: ConfigLoader, config: DictConfig) -> None:
        """Notes the failures that a launcher returns. The sweeper sees None instead: Hydra's own continues with its
        next batch, and Optuna counts a failed trial."""
        self.config, launch = config, launcher.launch

        def launch_and_note(job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            for overrides in job_overrides if self.searches else ():
                _check_trial(loader.load_sweep_config(config, list(overrides)))
            returns = launch(job_overrides, initial_job_idx=initial_job_idx)
            self.jobs += len(returns)
            for returned in returns:
                if isinstance(returned.return_value, Failure):
                    self.failures.append(returned.return_value)
                    returned.return_value = None
                elif returned.cfg is not None and returned.cfg.summary == "none":
                    self.trained.append(returned.cfg)
            return returns

        launcher.launch = launch_and_note  # type: ignore[method-assign]

    def refusal(self, error: Exception) -> LayerwiseError | None:
        """What to say of an error before the first job: the sweeper's or the launcher's; None for any other."""
        if self.config is None or self.jobs or isinstance(error, LayerwiseError):
            return None
        if isinstance(error, HydraException):
            reason = explain(error)
        elif isinstance(error, OSError) and error.filename is not None:
            folder = self.config.hydra.sweep.dir
            reason = f"hydra.sweep.dir={folder}: cannot be written: {error.strerror}. It is output_dir unless it is set"
        elif self.searches:  # Optuna checks little of what it is given
            reason = f"hydra.sweeper does not accept its settings: {type(error).__name__}: {one_line(str(error))}"
        else:
            return None
        return LayerwiseError(f"{reason}{'' if reason[-1] in '.?' else '.'} No job was started.")

    def summary(self) -> str:
        heading = f"{len(self.failures)} of {self.jobs} jobs failed:"
        return "\n".join([heading, *(f"  {failure.job}: {failure.reason}" for failure in self.failures)])


def _check_trial(composed: DictConfig) -> None:
    """Refuses trials that would leave the search nothing to choose by."""
    if not composed.dataset.validation and composed.dataset.folds is None:
        raise LayerwiseError(
            "a search maximises validation accuracy, but no samples are held out. Use dataset.validation=0.1 to hold "
            "out a tenth of the training samples."
        )
    if trials.are_judged() and composed.plan.name != GreedyConfig.name:
        raise LayerwiseError(
            f"plan={composed.plan.name}: only the trials of plan=greedy end early, between their blocks. Use "
            "hydra/sweeper=optuna."
        )
    if composed.summary != "none":
        raise LayerwiseError(f"summary={composed.summary}: a search trains runs; remove summary.")


def _check_sweeper(config: DictConfig) -> None:
    """Refuses numbers of trials below 1, and a data base that the sweeper's Optuna (2.10) cannot create."""
    for name in ("n_trials", "n_jobs"):
        if name in config.hydra.sweeper and not (type(n := config.hydra.sweeper[name]) is int and n >= 1):
            raise LayerwiseError(f"hydra.sweeper.{name}={n}: must be a whole number, 1 or more.")
    if config.hydra.sweeper.get("storage") and int(version("sqlalchemy").split(".")[0]) >= 2:
        raise LayerwiseError(
            "hydra.sweeper.storage: Optuna 2 needs older libraries: pip install 'sqlalchemy<2' 'alembic<1.14'. "
            "Or remove it: the same command continues a search without one."
        )


@contextmanager
def watched_jobs() -> Iterator[None]:
    """Around a call of Hydra's main function: names a multirun's failed jobs at the end, and a search's best trial.

    Raises:
        LayerwiseError: the jobs were refused before the first one started.
        SystemExit: jobs failed; the code is 1.
    """
    multirun = Multirun()
    trials.forget()
    plugins = Plugins.instance()
    instantiate = plugins.instantiate_launcher
    # Hydra refuses a file and a plugin's configuration of the same name; the file, in conf, maximises
    ConfigStore.instance().repo["hydra"]["sweeper"].pop("optuna.yaml", None)

    def watched(**parts: Any) -> Launcher:
        _check_sweeper(parts["config"])
        launcher = instantiate(**parts)
        multirun.watch(launcher, parts["hydra_context"].config_loader, parts["config"])
        return launcher

    plugins.instantiate_launcher = watched  # type: ignore  # Hydra has no hook that sees all returns
    try:
        yield
    except Exception as error:
        if (refused := multirun.refusal(error)) is not None:
            raise refused from error
        if not (isinstance(error, ValueError) and multirun.searches and multirun.found_nothing):
            raise  # else it is Optuna's, if no trial succeeded
    finally:
        plugins.instantiate_launcher = instantiate  # type: ignore[method-assign]
        if multirun.failures:
            say(multirun.summary())
    if os.environ.get("RANK", "0") == "0":
        if multirun.searches and not multirun.found_nothing:
            _show_best(multirun)
        elif len(multirun.trained) > 1:
            print(f"\n{_table_of(multirun.trained)}", end="")
    if multirun.failed:
        sys.exit(1)


def _table_of(trained: Sequence[DictConfig]) -> str:
    """Returns what `layerwise collect` prints of runs: a row for those that differ in the seed alone."""
    from layerwise.analysis.collecting import read_run  # all of these load torch
    from layerwise.commands.collect import as_markdown, rows_of
    from layerwise.config.identity import run_name
    from layerwise.config.parse import parse
    from layerwise.config.resolve import resolve

    configs = [resolve(parse(composed)) for composed in trained]
    folders = {run_name(config): Path(config.output_dir) / run_name(config) for config in configs}
    return as_markdown(rows_of({name: read_run(folder) for name, folder in folders.items() if folder.exists()}))


def _show_best(multirun: Multirun) -> None:
    """Prints Optuna's best trial as arguments; of other searches, or with several objectives, only the file."""
    assert multirun.config is not None
    path = Path(multirun.config.hydra.sweep.dir) / BEST
    best = OmegaConf.load(path)
    if "best_params" in best:
        words = " ".join(f"{key}={value}" for key, value in best.best_params.items())
        print(f"best trial: {words}, validation {best.best_value:.2f} %")
    print(f"search: {path}")
