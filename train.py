"""`python train.py model=simcnn k=3`: composes the configuration and runs it. `--help` explains the keys."""

import hydra
from omegaconf import DictConfig

from layerwise.cli import reported
from layerwise.distributed import leave
from layerwise.experiment import run
from layerwise.multirun import Failure, run_job, watched_jobs
from layerwise.submitted import submitted_task


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
