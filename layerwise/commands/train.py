"""`layerwise train KEY=VALUE …`: composes a configuration with Hydra and trains it. `--help` explains the keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from layerwise.commands import trials
from layerwise.commands.conf_files import CONF
from layerwise.commands.errors import loaded_processes, say
from layerwise.commands.multirun import Failure, run_job, watched_jobs
from layerwise.commands.overrides import for_hydra
from layerwise.commands.slurm_task import submitted_task


def main(words: Sequence[str]) -> None:
    sys.argv[1:] = for_hydra(words)  # where Hydra reads them
    with watched_jobs():
        compose_and_train()
        if processes := loaded_processes():
            processes.leave()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def compose_and_train(composed: DictConfig) -> float | Failure | None:
    return run_job(train, composed)


def train(composed: DictConfig) -> float | None:
    """Trains, continues or shows the run of a composed configuration.

    Returns:
        validation accuracy in %, if samples are held out: what a search over configurations maximises.
    """
    from layerwise.experiment.run import run  # loads torch, which --help and a mistyped key need not wait for

    _name_unused_resources()
    with submitted_task():
        return run(composed, trials.judge())


def _name_unused_resources() -> None:
    """Warns of keys of a SLURM job in a command that submits none."""
    hydra = HydraConfig.get()
    words = OmegaConf.to_container(hydra.overrides.task, resolve=False) or ()  # a value may be an interpolation
    unused = [str(word) for word in words if str(word).startswith("slurm.")]
    if unused and not hydra.launcher._target_.endswith("SlurmLauncher"):
        say(f"warning: {', '.join(unused)} has no effect: it needs --multirun hydra/launcher=slurm.")
