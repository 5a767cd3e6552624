"""Keys that are set without effect."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException

from helpers.commands import ROOT
from helpers.configs import composed, configured
from layerwise.commands.errors import explained
from layerwise.config.datasets import DATASETS
from layerwise.config.effects import EFFECTS, REFUSED, without_effect
from layerwise.config.identity import run_name
from layerwise.config.keys import key_names, kinds_keys
from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.data import torchvision_sets


def keys_without_effect(*words: str) -> list[str]:
    given = parse(composed(*words))
    return [key for key, _ in without_effect(given, resolve(given))]


def test_every_key_of_the_schema_says_when_it_has_an_effect():
    keys = {key for key in (*key_names(Config()), *kinds_keys()) if not key.startswith("slurm.")}
    assert keys == EFFECTS.keys()
    assert keys >= REFUSED


def test_mirror_images_are_known_by_data_set():
    for name in ("digits", "imagenet", "imagenette", *torchvision_sets.SETS):
        spec = DATASETS[name](name=name, **{"size": 8} if name.startswith("imagenet") else {}).reader(None).spec()
        assert DATASETS[name].mirrored == spec.flip, name


MLP = ("model=mlp", "dataset=digits")
WITHOUT = [
    (["optimizer.schedule=cosine", "optimizer.decay=0.5"], "optimizer.decay"),
    (["optimizer.schedule=cosine", "optimizer.decay_every=0.5"], "optimizer.decay_every"),
    (["optimizer.momentum=0", "optimizer.restart_momentum=false"], "optimizer.restart_momentum"),
    (["optimizer.weight_decay=0", "optimizer.norm_decay=false"], "optimizer.norm_decay"),
    (["objective.similarity=0.5"], "objective.similarity"),
    (["+optimizer.epsilon=1e-7"], "optimizer.epsilon"),
    (["dataset.validation_split=last"], "dataset.validation_split"),
    (["dataset=table", "dataset.path=a.csv", "dataset.test_path=b.csv", "dataset.test=0.5"], "dataset.test"),
    (["objective.reconstruction=absolute_error"], "objective.reconstruction"),
    (["plan.prune_epochs=3"], "plan.prune_epochs"),
    (["k=1", "model.head_width=7"], "model.head_width"),
    (["model.downsample=[]", "model.downsampling=max"], "model.downsampling"),
    (["cache=none", "cache.views=2"], "cache.views"),
    (["cache=none", "cache.dtype=uint8"], "cache.dtype"),
    (["cache=none", "cache.dir=x"], "cache.dir"),
    (["cache=none", "cache.keep=true"], "cache.keep"),
    (["cache=none", "cache.budget_gb=1"], "cache.budget_gb"),
    (["plan=joint", "ensemble.on=logits"], "ensemble.on"),
    (["dataset=digits", "dataset.flip=none"], "dataset.flip"),
    (["epochs=2", "evaluation.every=3"], "evaluation.every"),
    (["experiment=tutorial_labelled_digits", "epochs=6"], "epochs"),
    (["+logger.wandb.project=mine"], "logger.wandb.project"),
]


@pytest.mark.parametrize(("words", "key"), WITHOUT, ids=[key for _, key in WITHOUT])
def test_a_key_without_effect_is_found_and_does_not_name_the_folder(words, key):
    assert keys_without_effect(*words) == [key]
    others = [word for word in words if not word.lstrip("+").startswith(f"{key}=")]
    assert run_name(configured(*words)) == run_name(configured(*others))


OF_OTHERS = {
    "dataset.size=32": "It is a key of dataset=imagenet, imagenette or imagefolder.",
    "+dataset.size=32": "dataset=digits has no such option, which is of dataset=imagenet, imagenette or imagefolder.",
    "dataset.label=y": "It is a key of dataset=table.",
    "+dataset.path=x.csv": "dataset.path=x.csv: dataset=digits has no such option, which is of dataset=table. Leave",
    "dataset.szie=3": "Did you mean 'dataset.size'?",
    "model.depth=3": "It is a key of model=vgg or resnet_cifar.",
    "+plan.classifier_epochs=3": "plan=greedy has no such option, which is of plan=autoencoder. Leave it out.",
    "plan.finetune.autoencoder_epochs=1": "It is a key of plan=autoencoder.",
}


@pytest.mark.parametrize("word", OF_OTHERS)
def test_a_key_of_other_data_sets_networks_or_plans_is_refused(word):
    with pytest.raises((LayerwiseError, HydraException)) as caught:
        configured("dataset=digits", word)
    assert OF_OTHERS[word] in explained(caught.value)[0]


def test_a_key_of_another_data_set_or_plan_at_its_default_changes_nothing():
    same = ["dataset=digits", "+dataset.size=null", "+dataset.drop=[]", "+dataset.task=classification"]
    same += ["+plan.classifier_epochs=null", "+plan.finetune.autoencoder_epochs=0"]
    assert run_name(configured(*same)) == run_name(configured("dataset=digits"))


def test_no_file_of_conf_sets_a_key_without_effect():
    for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
        assert keys_without_effect(f"experiment={path.stem}") == [], path.stem
    for words in (["optimizer=adam"], ["optimizer=adamw"], ["optimizer=timm", "optimizer.name=lamb"], ["k=1"]):
        assert keys_without_effect(*words) == [], words
    for name in ("digits", "imagefolder", "imagenet", "svhn"):
        assert keys_without_effect(f"dataset={name}") == [], name


@pytest.mark.parametrize(
    "words",
    [
        "plan=joint model.pretrained=x plan.frozen_blocks=1 cache=memory cache.dtype=uint8",
        "plan=simultaneous model.pretrained=x plan.frozen_blocks=1 cache=disk cache.keep=true",
        "dataset=cifar10 plan=joint plan.finetune.epochs=1 dataset.fresh_views=true",
        "k=1 model.head=aux_1c2f optimizer.shift_lr=64",
    ],
)
def test_keys_count_behind_frozen_blocks_in_fine_tuning_and_for_the_norms_of_heads(words):
    assert keys_without_effect(*words.split()) == []


def test_a_run_warns_of_a_key_without_effect(train_py):
    outcome = train_py("objective.similarity=0.5", summary="table")
    assert outcome.code == 0
    assert "warning: objective.similarity=0.5 has no effect: it needs model.head=predsim." in outcome.err
