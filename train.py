"""`python train.py model=simcnn k=3`: composes the configuration and runs it. `--help` explains the keys."""

import hydra
from omegaconf import DictConfig

from layerwise.cli import reported
from layerwise.distributed import leave
from layerwise.experiment import run
from layerwise.submitted import submitted_task


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> None:
    with reported(), submitted_task():  # here too: Hydra would print a line of its own about the failed job
        run(composed)


if __name__ == "__main__":
    with reported():
        main()
        leave()
