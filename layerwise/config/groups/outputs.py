"""The configuration of what is shown and where jobs run: `summary`, `progress`, `logger`, `slurm`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Summary(Enum):
    """Values of `summary`."""

    none = "none"
    table = "table"
    json = "json"


class ProgressName(Enum):
    """Values of `progress`."""

    auto = "auto"
    off = "off"


class WandbMode(Enum):
    """Values of `logger.wandb.mode`."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass
class WandbConfig:
    """`logger=wandb`, which turns it on by its mode."""

    mode: WandbMode = WandbMode.disabled
    project: str = "layerwise"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    artifacts: bool = False


@dataclass
class TensorBoardConfig:
    """`logger=tensorboard`, which turns it on."""

    enabled: bool = False


@dataclass
class LoggerConfig:
    """`logger=none|wandb|tensorboard` or a list: what else shows the files of the run folder."""

    wandb: WandbConfig = field(default_factory=WandbConfig)
    tensorboard: TensorBoardConfig = field(default_factory=TensorBoardConfig)


@dataclass
class SlurmConfig:
    """What a job of `--multirun hydra/launcher=slurm` gets."""

    name: str = "layerwise"
    partition: str | None = None
    account: str | None = None
    gpus: int = 0
    cpus: int = 4
    memory_gb: int | None = None
    minutes: int = 1440
    parallel: int = 16
