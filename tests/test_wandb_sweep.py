"""A sweep file of W&B whose command is ours works as it is."""

from __future__ import annotations

import random

import pytest
import wandb
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from helpers.commands import ROOT
from helpers.configs import configured
from helpers.loggers import OFFLINE
from helpers.run_folders import only_run
from helpers.wandb_files import offline_runs
from layerwise.commands.overrides import for_hydra

FORMS = ["args", "args_no_hyphens"]


def drawn(parameters: dict, seed: int) -> dict:
    """The arguments of a run, as the server draws them: each parameter with its value."""
    draw = random.Random(seed)
    return {
        name: {"value": about.get("value", draw.choice(about.get("values", [about.get("min")])))}
        for name, about in parameters.items()
    }


def words_of(parameters: dict, form: str) -> list[str]:
    return create_sweep_command_args({"args": parameters})[form]


@pytest.mark.parametrize("form", FORMS)
def test_the_example_is_a_command_in_each_of_its_runs(form):
    sweep = yaml.safe_load((ROOT / "slurm" / "sweeps" / "wandb.yaml").read_text())
    assert sweep["command"] == ["layerwise", "train", "logger=wandb", "${args}"]
    for seed in range(5):
        values = drawn(sweep["parameters"], seed)
        config = configured(*for_hydra(["logger=wandb", *words_of(values, form)]))
        assert config.optimizer.lr == 0.01
        assert config.dataset.validation == 0.1
        assert config.optimizer.clip_norm == values["optimizer.clip_norm"]["value"]
        assert config.optimizer.schedule.value == values["optimizer.schedule"]["value"]
        assert config.model.head_width == values["model.head_width"]["value"]
        assert config.model.width == 32  # of the experiment file, though Hydra has an option --experimental-rerun


def test_values_arrive_as_python_writes_them():
    values = {"seed": 3, "dataset.augment": False, "optimizer.decay_at": [0.4, 0.9], "optimizer.lr": 1e-05, "J": None}
    words = words_of({name: {"value": value} for name, value in values.items()}, "args")
    assert "--dataset.augment=False" in words
    config = configured(*for_hydra(["dataset=digits", *words, "--k=2"]))
    assert (config.seed, config.dataset.augment, config.optimizer.decay_at) == (3, False, [0.4, 0.9])
    assert (config.optimizer.lr, config.k) == (1e-05, 2)


def test_later_arguments_win_however_they_are_written():
    assert configured(*for_hydra(["k=2", "--k=1"])).k == 1
    assert configured(*for_hydra(["--k=1", "k=2"])).k == 2


@pytest.mark.usefixtures("no_wandb_account")
def test_a_run_of_a_sweep_is_the_one_that_the_agent_began(train_py, tmp_path, monkeypatch):
    """Also where the folder is that of a finished run of another sweep."""
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    for name in ("first111", "second22"):
        monkeypatch.setenv("WANDB_RUN_ID", name)
        wandb.teardown()  # each is a process of its own, which reads the environment anew
        assert train_py("--epochs=1", epochs=None, **OFFLINE).code == 0
    first, second = sorted(offline_runs(only_run(tmp_path)), key=lambda run: run.run["id"])
    assert [first.run["id"], second.run["id"]] == ["first111", "second22"]
    assert len(first.column("train/loss")) == len(second.column("train/loss")) == 2
