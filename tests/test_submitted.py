"""`hydra/launcher=slurm` without a cluster: what its jobs ask for, and what their tasks are told. See test_slurm.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from helpers.configs import composed
from layerwise.commands.slurm_task import submitted_task
from layerwise.config.identity import identity
from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.core import distributed
from layerwise.core.errors import Interrupted
from layerwise.core.interrupt import StopRequest

TASK = {
    "SUBMITIT_EXECUTOR": "slurm",
    "SLURM_JOB_ID": "1234567",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_JOB_NODELIST": "n1",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}
"""Environment of the second of two tasks."""

TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def on_slurm(*overrides: str):
    return composed("hydra/launcher=slurm", *overrides, return_hydra_config=True)


def launcher(*overrides: str):
    return on_slurm(*overrides).hydra.launcher


def test_the_keys_of_slurm_reach_the_launcher():
    plain = launcher()
    assert (plain.name, plain.gpus_per_node, plain.tasks_per_node, plain.cpus_per_task) == ("layerwise", 0, 1, 4)
    words = ("name=n", "partition=p", "account=a", "gpus=8", "cpus=6", "memory_gb=64", "minutes=90", "parallel=3")
    asked = launcher(*(f"slurm.{word}" for word in words))
    assert (asked.name, asked.partition, asked.account, asked.mem_gb) == ("n", "p", "a", 64)
    assert (asked.gpus_per_node, asked.tasks_per_node, asked.cpus_per_task) == (8, 8, 6)
    assert (asked.timeout_min, asked.array_parallelism) == (90, 3)
    assert asked.additional_parameters.requeue is True
    assert "export SRUN_CPUS_PER_TASK=6" in asked.setup[0]


def test_where_a_run_computes_does_not_name_its_folder():
    def of(*overrides: str):
        cfg = on_slurm(*overrides)
        with_hydra = OmegaConf.to_container(cfg, resolve=False)
        del with_hydra["hydra"]
        return identity(resolve(parse(OmegaConf.create(with_hydra))))

    assert of("slurm.gpus=8", "slurm.minutes=5") == of()


def test_a_missing_plugin_is_named_with_the_remedy(train_py, monkeypatch):
    train_py("--version")  # Hydra finds its plugins once
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "submitit_slurm.yaml")
    outcome = train_py("hydra/launcher=slurm", "--multirun")
    assert outcome.code == 2
    assert outcome.err == "error: hydra/launcher=slurm: needs a plugin: pip install hydra-submitit-launcher.\n"


def test_a_machine_without_slurm_is_named(train_py, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = train_py("hydra/launcher=slurm", "--multirun")
    assert outcome.code == 2
    assert "hydra/launcher=slurm: srun was not found" in outcome.err


@pytest.fixture
def task(monkeypatch):
    """Makes this process a task as submitit starts it; the list says when submitit requeued it."""
    requeued: list[int] = []
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)
    for name, value in TASK.items():
        monkeypatch.setenv(name, value)
    before = signal.signal(signal.SIGUSR2, lambda number, frame: requeued.append(number))
    yield requeued
    signal.signal(signal.SIGUSR2, before)
    for name in TOLD:
        os.environ.pop(name, None)


def test_a_task_is_told_what_torchrun_would_tell_it(task):
    assert distributed.place() == distributed.Place(1, 2, 1, 2)
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"


@contextmanager
def submitted_task_stopped_by(number: int) -> Iterator[None]:
    """The body is what the training still does after the signal."""
    with submitted_task(), StopRequest() as stop:
        os.kill(os.getpid(), number)
        yield
        stop.all_check()


def test_the_training_saves_before_it_is_requeued(task):
    with pytest.raises(Interrupted), submitted_task_stopped_by(signal.SIGUSR2):
        assert task == []
    assert task == [signal.SIGUSR2]


def test_what_does_not_train_yet_is_requeued_at_once(task):
    with submitted_task():
        os.kill(os.getpid(), signal.SIGUSR2)
    assert task == [signal.SIGUSR2]


def test_a_run_that_another_signal_stops_is_not_requeued(task):
    with pytest.raises(Interrupted), submitted_task_stopped_by(signal.SIGTERM):
        pass
    assert task == []


def test_a_process_of_its_own_is_left_alone(monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    before = signal.getsignal(signal.SIGUSR2)
    with submitted_task():
        assert signal.getsignal(signal.SIGUSR2) is before
