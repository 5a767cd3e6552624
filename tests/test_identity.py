"""What names a run folder, and that the folders of earlier versions are found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from helpers.commands import ROOT
from helpers.configs import configured
from layerwise.config.identity import chosen, differences, run_name
from layerwise.config.kinds import KINDS
from layerwise.config.parse import from_yaml, to_yaml
from layerwise.config.resolve import resolve
from layerwise.runs.folder import run_path

SAME = "model.width=128 epochs=50 model.downsample=[3] seed=0 model.bias=null progress=off report=false device=cpu"
OTHER = "k=2 seed=1 epochs=3 J=3 dataset=svhn plan=joint model.bias=true cache=none optimizer.lr=0.05"


@pytest.mark.parametrize("word", SAME.split())
def test_a_value_that_is_spelled_out_or_computes_nothing_has_the_name_of_the_default(word):
    assert run_name(configured(word)) == run_name(configured())


@pytest.mark.parametrize("word", OTHER.split())
def test_a_value_that_computes_something_else_has_another_name(word):
    assert run_name(configured(word)) != run_name(configured())


def test_the_chosen_values_are_those_that_the_others_follow_from():
    assert chosen(configured("epochs=3", "plan=joint", "J=2")) == {
        "J": 2,
        "plan.epochs": 6,
        "model.kind": "simcnn",
        "dataset.name": "cifar10",
        "plan.name": "joint",
    }


def test_a_new_key_with_a_default_renames_no_folder(tmp_path):
    """In a copy of the package whose schema has one key more."""
    shutil.copytree(ROOT / "layerwise", tmp_path / "layerwise", ignore=shutil.ignore_patterns("assets"))
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    schema = tmp_path / "layerwise" / "config" / "groups" / "training.py"
    similarity = "    similarity: float = 0.99\n"
    text = schema.read_text()
    assert text.count(similarity) == 1
    schema.write_text(text.replace(similarity, f"{similarity}    novel: float = 0.5\n"))
    words = ["dataset=digits", "k=2", "epochs=3"]
    script = (
        "import json, sys\n"
        "from layerwise.commands.compose import configuration\n"
        "from layerwise.config.identity import run_name\n"
        f"words = {words}\n"
        "print(json.dumps([run_name(configuration(words + more)) for more in ([], ['+objective.novel=0.7'])]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    same, different = json.loads(done.stdout)
    assert same == run_name(configured(*words)) != different


@pytest.mark.parametrize(
    "words",
    [
        *("model=mlp dataset=blobs", "dataset=digits plan.prune_to=8", "plan=joint", "plan=simultaneous"),
        *("plan=autoencoder plan.finetune.autoencoder_epochs=2", "plan._target_=layerwise.training.plan.greedy"),
        "plan._target_=layerwise.training.plan.greedy plan.carried=true",
        *("model=mlp dataset=table dataset.path=x.csv dataset.drop=[a]", "dataset=imagefolder dataset.size=16"),
        "dataset._target_=layerwise.data.adapters.torchvision dataset.source=CIFAR10 dataset.side=16",
    ],
)
def test_a_configuration_with_the_keys_of_all_networks_data_sets_and_plans_is_read(tmp_path, words):
    """As the files of earlier versions had them."""
    config, tree, path = configured(*words.split()), OmegaConf.create({}), tmp_path / "config.yaml"
    for kinds in KINDS:
        for name, value in kinds.all_keys.items():
            OmegaConf.update(tree, f"{kinds.group}.{name}", getattr(value, "value", value))
    path.write_text(OmegaConf.to_yaml(OmegaConf.merge(tree, OmegaConf.create(to_yaml(config)))))
    assert run_name(resolve(from_yaml(path, trust=True))) == run_name(config)
    assert to_yaml(from_yaml(path)) == to_yaml(config)


ROUND_TRIPS = [
    *(f"experiment={path.stem}" for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml"))),
    *(f"k={k} {key}" for k in (1, 2) for key in ("model.width=8", "model.widths=[4,6] J=2", "model.batch_norm=true")),
    *(f"model.widths=[4,6] J=2 model.head={head}" for head in ("pooled", "mlp_sr", "predsim", "aux_1c2f", "goodness")),
    *("model=mlp k=1 J=2", "model=vgg", "model=resnet_cifar model.head=auglocal model.modules=4"),
    *(
        "plan=deep_supervision objective.head_weights=0.3",
        "optimizer=timm optimizer.name=lamb",
        "dataset=blobs model=mlp",
    ),
]


@pytest.mark.parametrize("words", ROUND_TRIPS)
def test_what_was_resolved_is_resolved_again_and_the_same(tmp_path, words):
    """Otherwise the same command would not go on with its run, and nothing could be loaded."""
    config = configured(*words.split())
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    again = resolve(from_yaml(tmp_path / "config.yaml", trust=True))
    assert to_yaml(again) == to_yaml(config)
    assert not list(differences(again, config))


def test_a_folder_of_the_old_naming_is_found_and_continued(train_py, tmp_path):
    assert train_py().code == 0
    (new,) = (tmp_path / "out").iterdir()
    old = new.rename(new.with_name(f"{new.name.rpartition('-')[0]}-0123abcd"))
    outcome = train_py()
    assert outcome.code == 0
    assert "this run is finished" in outcome.err
    (old / "checkpoints" / "stage_2.safetensors").unlink()
    assert train_py().code == 0
    assert (old / "checkpoints" / "stage_2.safetensors").exists()
    assert list((tmp_path / "out").iterdir()) == [old]


def test_a_folder_of_the_old_naming_with_another_configuration_is_left_alone(tmp_path):
    config = configured(f"output_dir={tmp_path}")
    old = tmp_path / f"{run_name(config).rpartition('-')[0]}-0123abcd"
    old.mkdir()
    assert run_path(config) == tmp_path / run_name(config)
    (old / "config.yaml").write_text("nothing")
    assert run_path(config) == tmp_path / run_name(config)
