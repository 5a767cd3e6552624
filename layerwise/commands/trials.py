"""Ends bad trials of a search early, at block boundaries, by Optuna's pruners (`hydra/sweeper=hyperband` or `halving`).

Hydra's plugin tells Optuna what a trial ends with, and nothing on the way. But it gives each trial to the function that
its key `custom_search_space` names. The functions here note the trial and set its study's pruner. The job of that
trial, which runs in this process, then tells it each depth's validation accuracy.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from layerwise.core.errors import LayerwiseError
from layerwise.core.measures import quality

if TYPE_CHECKING:  # torch
    from layerwise.experiment.context import Judge

GO_ON = 2
"""One of so many trials goes on at each rung."""

_trials: list[Any] = []
"""Trials of the search in this process, by the number of their job."""


def hyperband(config: DictConfig, trial: Any) -> None:
    """For `hydra.sweeper.custom_search_space`: Hyperband, whose brackets begin to compare at different depths."""
    from optuna.pruners import HyperbandPruner

    class Steady(HyperbandPruner):  # type: ignore[misc, unused-ignore]
        """Gives a trial the same bracket in every process; Optuna 2 takes Python's hash of a text, which differs."""

        def _get_bracket_id(self, study: Any, trial: Any) -> int:
            if not self._pruners:
                return 0
            name = f"{study.study_name}_{trial.number}"
            ends = itertools.accumulate(self._trial_allocation_budgets)
            n = zlib.crc32(name.encode()) % self._total_trial_allocation_budget
            return next(bracket for bracket, end in enumerate(ends) if n < end)

    _note(config, trial, Steady(min_resource=1, reduction_factor=GO_ON))


def halving(config: DictConfig, trial: Any) -> None:
    """For `hydra.sweeper.custom_search_space`: successive halving, which compares at depths 1, 2, 4, …."""
    from optuna.pruners import SuccessiveHalvingPruner

    _note(config, trial, SuccessiveHalvingPruner(min_resource=1, reduction_factor=GO_ON))


def _note(config: DictConfig, trial: Any, pruner: Any) -> None:
    launcher = str(config.hydra.launcher._target_)
    if not launcher.endswith(".BasicLauncher"):
        raise LayerwiseError(
            "hydra/sweeper=hyperband and halving stop trials that run in this process, not jobs of another launcher. "
            "Use hydra/sweeper=optuna, or leave out hydra/launcher."
        )
    if not _trials or _trials[0].study is not trial.study:  # the first trial of a search
        _trials.clear()
        trial.study.pruner = pruner
    _trials.append(trial)


def forget() -> None:
    """Begins another search."""
    _trials.clear()


def are_judged() -> bool:
    """Whether the trials of this search may be ended early."""
    return bool(_trials)


def judge() -> Judge | None:
    """Returns what may end the run of this job early; None if it is no such trial."""
    hydra = HydraConfig.get()
    if hydra.mode is not RunMode.MULTIRUN or not _trials:
        return None
    trial = _trials[hydra.job.num]
    told: set[int] = set()

    def goes_on(rows: Sequence[dict[str, Any]]) -> bool:
        for row in rows:
            if row["block"] in told or "validation" not in row:
                continue
            told.add(row["block"])
            trial.report(quality(row["validation"]), row["block"])
            if trial.should_prune():
                return False
        return True

    return goes_on
