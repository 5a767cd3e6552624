"""The import direction, and experiments that compose."""

from __future__ import annotations

import ast
import re
from dataclasses import is_dataclass
from enum import Enum
from typing import get_args, get_type_hints

import pytest
import torch

from helpers.commands import ROOT
from helpers.configs import composed, configured
from helpers.package import FILES, PACKAGE, ROOMS, imports_of, room_of
from layerwise.config import build
from layerwise.config.heads import HEADS, heads_of
from layerwise.config.keys import key_names, kinds_keys
from layerwise.config.kinds import KINDS
from layerwise.config.networks import NETWORKS
from layerwise.config.parse import parse
from layerwise.config.schema import Config
from layerwise.training.choices import LOSSES


def test_imports_run_one_way():
    found = {(path, name) for path in FILES for name in imports_of(path) if name.startswith("layerwise.")}
    assert [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, name in sorted(found)
        if ROOMS.index(name.split(".")[1]) > ROOMS.index(room_of(path))
    ] == []


def test_the_package_itself_holds_only_its_door():
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py"}
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == set(ROOMS)


OURS = [*FILES, *(path for folder in ("benchmarks", "scripts") for path in sorted((ROOT / folder).rglob("*.py")))]


def test_modules_have_at_most_350_lines_and_functions_60_of_code():
    """A docstring, blank lines and lines of comment do not count as code."""
    too_long = [path.name for path in OURS if len(path.read_text().splitlines()) > 350]
    for path in OURS:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None
                start = node.body[0].end_lineno if documented else node.lineno - 1
                code = [line for line in lines[start : node.end_lineno] if line.strip() and line.strip()[0] != "#"]
                if len(code) + (node.body[0].lineno - node.lineno) * documented > 60:
                    too_long.append(f"{path.name}: {node.name}")
    assert too_long == []


OMEGACONF_USERS = {"commands", "config", "experiment"}


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("hydra", {"commands", "config"}),
        ("jinja2", {"reporting"}),
        ("omegaconf", OMEGACONF_USERS),
        ("onnx", {"analysis"}),
        ("onnxruntime", {"analysis"}),
        ("timm", {"models", "data", "training"}),
        ("wandb", {"reporting"}),
        ("tensorboard", {"reporting"}),
    ],
)
def test_libraries_stay_where_they_belong(library, allowed):
    users = {room_of(path) for path in FILES if any(name.split(".")[0] == library for name in imports_of(path))}
    assert users <= allowed


EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds(experiment):
    config = configured(f"experiment={experiment}")
    spec = build.build_spec(config)
    stages = build.build_agenda(config).stages()
    with torch.device("meta"):
        network = build.build_network(config, spec, stages)
    assert len(network.blocks) == stages[-1].stop
    text = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text()
    assert f"layerwise train experiment={experiment}" in text  # it opens with its command


NEEDED = {
    ("model", "timm"): ["model.name=resnet18"],
    ("model", "own"): ["model._target_=helpers.networks.convolutions", "model.width=10"],
    ("dataset", "own"): ["dataset._target_=layerwise.data.toy.read_blobs"],
    ("dataset", "torchvision"): ["dataset.source=CIFAR10"],
    ("dataset", "huggingface"): ["dataset.repository=x/y"],
    ("plan", "own"): ["plan._target_=layerwise.training.plan.joint"],
    ("optimizer", "timm"): ["optimizer.name=lamb"],
    ("dataset", "table"): ["dataset.path=x.csv"],
    ("model.head", "infopro"): ["plan=simultaneous"],
    ("model.head", "infopro_contrast"): ["plan=simultaneous"],
}
"""What a choice leaves open."""


@pytest.mark.parametrize(
    ("kind", "head"),
    [(kind, head) for kind, network in NETWORKS.items() if hasattr(network, "head") for head in heads_of(kind)],
)
def test_every_head_that_a_network_supports_builds(kind, head):
    needed = [*NEEDED.get(("model", kind), []), *NEEDED.get(("model.head", head), [])]
    config = configured(f"model={kind}", f"model.head={head}", *needed)
    with torch.device("meta"):
        network = build.build_network(config, build.build_spec(config), build.build_agenda(config).stages())
    assert network.depths == tuple(range(1, config.J + 1))


@pytest.mark.parametrize("group", ["model", "dataset", "plan", "cache", "optimizer", "logger"])
def test_every_choice_of_a_group_composes(group):
    for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
        if not path.stem.startswith("base"):
            parse(composed(f"{group}={path.stem}", *NEEDED.get((group, path.stem), [])))


def test_the_yaml_files_hold_every_key_of_the_schema():
    groups = ("model", "dataset", "plan", "optimizer", "logger")
    files = [(group, path.stem) for group in groups for path in (ROOT / "conf" / group).glob("*.yaml")]
    choices = [composed(f"{group}={stem}") for group, stem in files if not stem.startswith("base")]
    names = [*key_names(Config()), *kinds_keys()]
    assert {name for name in names if not any(has_key(cfg, name) for cfg in choices)} == set()


def has_key(cfg, dotted: str) -> bool:
    for name in dotted.split("."):
        if name not in cfg:
            return False
        cfg = cfg[name]
    return True


def test_the_help_explains_every_top_level_key(train_py):
    text = train_py("--help").out
    keys = [name for name, entry in Config.__dataclass_fields__.items() if entry.metadata.get("is_key", True)]
    for name in (*keys, "experiment"):
        assert re.search(rf"\b{name}\b", text), name
    for group in ("model", "dataset", "plan", "cache", "optimizer", "logger", "experiment"):
        section = text[text.index(f"\n  {group} ") :]
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert path.stem.startswith("base") or path.stem in section, f"{group}={path.stem}"


def test_the_help_names_every_value_of_every_choice(train_py):
    text = train_py("--help").out.split("All keys with their current values")[0]
    values = {value.value for choice in enums_of(Config) for value in choice}
    for value in sorted(values | LOSSES.keys() | HEADS.keys()):
        assert re.search(rf"\b{value}\b", text), value


def enums_of(config) -> set[type[Enum]]:
    found, groups = set(), {kinds.group: kinds.classes.values() for kinds in KINDS}
    for name, hint in get_type_hints(config).items():
        for kind in groups.get(name, [hint]) if is_dataclass(hint) else []:
            found |= enums_of(kind)
        found |= {kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, Enum)}
    return found


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["k=1"], {"J": 5, "width": 256, "downsample": [3, 4], "batch_norm": False}),
        (["k=2"], {"J": 4, "width": 128, "head_width": 256, "downsample": [3], "batch_norm": True}),
        (["k=3"], {"J": 4, "width": 128, "head_width": 256, "downsample": [3], "batch_norm": True}),
        (["k=4"], {"J": 4, "width": 128, "head_width": 256, "downsample": [3], "batch_norm": True}),
        (["k=3", "J=2", "model.width=5"], {"J": 2, "width": 5, "downsample": []}),
    ],
)
def test_null_takes_the_papers_values(overrides, expected):
    config = configured(*overrides)
    found = {"J": config.J, **vars(config.model)}
    assert {name: found[name] for name in expected} == expected
    assert (config.epochs, config.batch_size, config.optimizer.lr) == (50, 128, 0.1)
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 5e-4)
    assert (config.optimizer.decay, config.optimizer.decay_every) == (0.2, 0.3)
    assert config.ensemble.on.value == "logits"


def test_joint_training_sees_the_data_as_often_as_greedy():
    config = configured("plan=joint", "epochs=7")
    assert config.plan.epochs == 28
    assert configured("plan=joint", "plan.epochs=3").plan.epochs == 3


def test_an_end_to_end_timm_network_sees_the_data_as_often_as_its_cut_form():
    timm = ["model=timm", "model.name=resnet18", "epochs=7"]
    assert configured(*timm, "plan=joint").plan.epochs == 35
    assert configured("model=timm", "model.name=test_vit", "epochs=7", "plan=joint").plan.epochs == 49
    assert configured("model=timm", "model.name=legacy_xception", "epochs=7", "plan=joint").plan.epochs == 7
