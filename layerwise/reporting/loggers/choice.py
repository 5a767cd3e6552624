"""From `logger=…` to the loggers of a run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from layerwise.config.schema import Config, WandbMode
from layerwise.core.errors import LayerwiseError
from layerwise.reporting.loggers.base import Logger
from layerwise.reporting.loggers.tensorboard_files import TensorBoardFiles
from layerwise.reporting.loggers.wandb_run import WandbRun
from layerwise.runs.folder import SEARCH

UPLOAD_SECONDS = {False: 30.0, True: 600.0}
"""How long the end of a run waits for W&B, without and with the network to upload."""


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
            raise LayerwiseError(f'logger={name}: it is not installed: pip install -e ".[loggers]".')


def build_loggers(
    config: Config, folder: Path, note: Callable[[str], None], warn: Callable[[str], None]
) -> dict[str, Logger]:
    """What else shows the run, by the names of `logger=…`.

    Args:
        config: resolved.
        folder: of the run.
        note, warn: print a line of information, a warning.
    """
    wandb, loggers = config.logger.wandb, dict[str, Logger]()
    if wandb.mode is not WandbMode.disabled:
        searching = folder.name == SEARCH
        loggers["wandb"] = WandbRun(
            project=wandb.project,
            entity=wandb.entity,
            group=wandb.group or f"{config.dataset.name}-{config.model.name}",
            job_type=wandb.job_type or config.plan.name.value,
            name=f"{folder.parent.name}/{folder.name}" if searching else folder.name,
            tags=list(dict.fromkeys([config.plan.name.value, f"k={config.k}", *wandb.tags])),
            mode=wandb.mode.value,
            artifacts=wandb.artifacts,
            finish_seconds=UPLOAD_SECONDS[wandb.artifacts],
            note=note,
            warn=warn,
        )
    if config.logger.tensorboard.enabled:
        loggers["tensorboard"] = TensorBoardFiles()
    return loggers
