"""From `logger=…` to the loggers of a run."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from layerwise.config.groups.outputs import WandbMode
from layerwise.config.identity import all_but_the_seed, as_plain
from layerwise.config.parse import from_yaml
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.reporting.loggers.base import Logger, Loggers
from layerwise.reporting.loggers.tensorboard_files import TensorBoardFiles
from layerwise.reporting.loggers.wandb_run import WandbRun, mode_of
from layerwise.runs.run_files import CONFIG, RESULTS, SEARCH, read_results

SEND_SECONDS = 600.0
"""The longest that sending a run from its files takes."""

FACTS = ("cache", "precision", "hardware", "versions", "git_commit", "search", "outside")
"""What results.json says of how a run was computed."""


def check_loggers(config: Config) -> None:
    """Refuses a logger that is not installed.

    Raises:
        LayerwiseError: names it, and says how to install it.
    """
    needed = {
        "wandb": config.logger.wandb.mode is not WandbMode.disabled,
        "tensorboard": config.logger.tensorboard.enabled,
    }
    for name, wanted in needed.items():
        if wanted and importlib.util.find_spec(name) is None:
            raise LayerwiseError(f"logger={name}: it is not installed: pip install {name}.")


def build_loggers(config: Config, folder: Path, note: Callable[[str], None]) -> dict[str, Logger]:
    """The loggers that a configuration chooses, by the names of `logger=…`."""
    wandb, loggers = config.logger.wandb, dict[str, Logger]()
    if (mode := mode_of(wandb.mode.value)) != WandbMode.disabled.value:
        searching = folder.name == SEARCH
        loggers["wandb"] = WandbRun(
            project=wandb.project,
            entity=wandb.entity,
            group=wandb.group or group_of(folder.parent if searching else folder),
            job_type=wandb.job_type or (SEARCH if searching else config.plan.name),
            name=f"{folder.parent.name}/{folder.name}" if searching else folder.name,
            tags=list(dict.fromkeys([config.plan.name, f"k={config.k}", *wandb.tags])),
            mode=mode,
            artifacts=wandb.artifacts,
            note=note,
        )
    if config.logger.tensorboard.enabled:
        loggers["tensorboard"] = TensorBoardFiles()
    return loggers


def group_of(folder: Path) -> str:
    """Returns a name that runs share that differ in the seed alone: `simcnn-cifar10-greedy-k3-J4-1a2b3c`."""
    config = from_yaml(folder / CONFIG)  # as each command reads it, then and later
    digest = hashlib.sha256(all_but_the_seed(config).encode()).hexdigest()[:6]
    words = (config.model.label, config.dataset.name, config.plan.name, f"k{config.k}", f"J{config.J}")
    return "-".join((*words, digest))


def send(config: Config, folder: Path, note: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Sends a run that no process trains now to the loggers that do not have all of it.

    Args:
        config: says in `logger` where to; the rest is read from the folder.

    Raises:
        LayerwiseError: the folder holds no run, or no results yet.
    """
    loggers = build_loggers(config, folder, note)
    missing = {name: logger for name, logger in loggers.items() if not logger.is_complete(folder)}
    if not missing:
        return
    results = read_results(folder / RESULTS)
    if results is None:
        raise LayerwiseError(f"{folder / RESULTS}: cannot be read: no stage of the run is finished.")
    sending = Loggers(missing, warn, SEND_SECONDS)
    trained = as_plain(from_yaml(folder / CONFIG), but=("logger", "slurm"))
    sending.begin(folder, trained, {name: results[name] for name in FACTS if name in results})
    sending.end(results)
