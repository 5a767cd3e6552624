"""`python train.py model=simcnn k=3`: composes the configuration and runs it. `--help` explains the keys."""

import hydra
from omegaconf import DictConfig

from layerwise.commands.errors import reported
from layerwise.commands.multirun import Failure, run_job, watched_jobs
from layerwise.commands.slurm_task import submitted_task
from layerwise.core.distributed import leave
from layerwise.experiment.run import run


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> float | Failure | None:
    return run_job(train, composed)


def train(composed: DictConfig) -> float | None:
    with submitted_task():
        return run(composed)


if __name__ == "__main__":
    with reported(), watched_jobs():
        main()
        leave()
