"""Options of runs and commands that cannot be, or not together: one message, before anything is written."""

from __future__ import annotations

import sys

import pytest

from helpers.commands import assert_refused, run_script

REFUSED = {
    # Which blocks, how deep
    "plan.patience=2": "plan.patience=2 needs validation samples to choose the depth: dataset.validation",
    "plan.search_fraction=0.2": "plan.search_fraction=0.2 needs validation samples to choose the depth",
    "optimizer.decay_every=15": "optimizer.decay_every=15.0: must be more than 0 and less than 1",
    "k=2 model.pool=1 dataset.limit=201 batch_size=50": "leaves a last batch of 1 … batch norm needs at least two",
    "plan.search_fraction=1.5": "must be more than 0 and less than 1",
    "plan.search_fraction=0.5 dataset.validation=0.2 plan.reuse=x": "cannot be combined with plan.search_fraction",
    "plan.search_fraction=0.2 dataset.validation=0.2": "in the search for the depth … batch_size=64: there are only 40",
    "plan.search_fraction=0.5 dataset.validation=0.2 dataset.limit=100000": "dataset.limit=100000: there are only",
    "plan.patience=0": "plan.patience=0: must be 1 or more",
    "plan.patience=1 model.final_head_width=4 dataset.validation=0.2": "cannot be combined with model.final_head_width",
    "plan.max_blocks=7": "plan.max_blocks=7 conflicts with J=2",
    "plan.blocks_per_stage=0": "plan.blocks_per_stage=0: must be 1 or more",
    # Heads, fine-tuning, pruning, stages of other runs
    "plan.head=carry": "plan.head … carry",
    "plan=joint +plan.head=carried": "plan.head=carried: plan=joint has no such option",
    "plan.finetune=10": "plan.finetune=10: is a group of keys … epochs",
    "plan.finetune.lr=0": "plan.finetune.lr=0.0: must be more than 0",
    "plan.finetune.lr=0.1": "it needs plan.finetune.epochs",
    "plan.finetune.autoencoder_epochs=1": "unknown key 'plan.finetune.autoencoder_epochs'",
    "plan.prune_rounds=2": "plan.prune_rounds=2 has no effect: it needs plan.prune_to",
    "plan.prune_to=4 plan.prune_rounds=5": "plan.prune_rounds=5: block 1 loses only 4 filters",
    "plan.prune_to=4 plan.last_head_width=4 model.final_head_width=4": "plan.last_head_width=4 cannot be combined",
    "plan.prune_to=8": "plan.prune_to=8 must be less than model.width=8",
    "plan.prune_to=4 k=1": "plan.prune_to=4 needs k=2",
    "plan.prune_to=4 plan.blocks_per_stage=2": "cannot be combined with plan.blocks_per_stage",
    "plan.prune_to=4 plan.head=carried": "cannot be combined with",
    "plan=joint +plan.prune_to=4": "plan.prune_to=4: plan=joint has no such option",
    "plan=joint plan.prune_to=4": "unknown key 'plan.prune_to'. It is a key of plan=greedy",
    "plan=joint +plan.reuse=x": "plan.reuse=x: plan=joint has no such option",
    "plan.reuse=/nowhere": "/nowhere/config.yaml: cannot be read",
    "model.pretrained=/nowhere": "/nowhere/config.yaml: cannot be read",
    "model.pretrained=timm": "model.pretrained=timm: timm has no weights for model=simcnn",
    "model.pretrained=x plan.warm_start=true": "plan.warm_start=true cannot be combined with model.pretrained",
    "plan.frozen_blocks=1": "plan.frozen_blocks=1 has no effect: it needs model.pretrained",
    "model.pretrained=x plan.frozen_blocks=3": "plan.frozen_blocks=3 … at least as many blocks (J)",
    "model.pretrained=x plan.frozen_blocks=1 plan.head=frozen": "cannot be combined with plan.head=frozen",
    "model.pretrained=x plan.frozen_blocks=1 plan.prune_to=4": "cannot be combined with plan.prune_to",
    "objective.single_logit=true": "objective.single_logit=true is for two classes; digits has 10",
    "objective.single_logit=true objective.loss=squared_error": "Leave out objective.loss=squared_error",
    "plan.warm_start=true model.final_head_width=4 model.downsample=[]": "depth 2 has another shape … as a copy",
    "plan.warm_start=true plan.blocks_per_stage=2": "needs plan.blocks_per_stage=1",
    "plan.warm_start=true model.downsample=[] model.activation=gelu": "block 2 cannot begin … a layer GELU",
    "plan.warm_start=true model.downsample=[] model.activation=[none,relu]": "block 2 cannot … would cut negative",
    "plan.warm_start=true model.downsample=[2] model.downsampling=stride": "block 2 cannot … changes the resolution",
    "plan.warm_start=true model.downsample=[2] model.downsampling=max": "block 2 cannot … a layer MaxPool2d",
    "plan.warm_start=true model.widths=[4,8] -model.width model.downsample=[]": "block 2 … 4 inputs and 8 outputs",
    "plan.warm_start=true model.whiten_input=true": "plan.warm_start=true: block 2 … a layer PixelUnshuffle",
    "plan.warm_start=true model=mlp model.widths=[8,6] -model.width MLP": "block 2 … 8 inputs and 6 outputs",
    "plan.warm_start=true model=mlp model.dropout=0.5 MLP": "block 2 … a layer Dropout",
    "plan.warm_start=true model=timm model.name=resnet18 OWN": "block 2 … the class Sequential does not say how",
    "plan.prune_to=4 model=timm model.name=resnet18 OWN": "plan.prune_to=4: model=timm cannot be pruned",
    "plan.prune_to=8 model=mlp MLP": "plan.prune_to=8 must be less than 8, the narrowest hidden layer",
    "plan.prune_to=4 plan.last_head_width=4 model=mlp MLP": "plan.last_head_width=4 needs model=simcnn",
    "plan.prune_to=4 model.head=pooled": "plan.prune_to=4: model=simcnn cannot be pruned … model.head=cnn",
    # Networks
    "model.activation=swish": "model.activation=swish: use relu, … or a list of these by block",
    "model.activation=[relu,none,1]": "model.activation=['relu', 'none', 1]: use relu",
    "model.activation=[]": "model.activation=[]: use relu",
    "plan.warm_start=true model.downsample=[] model.activation=[none,tanh]": "block 2 cannot begin … a layer Tanh",
    "model=mlp model.dropout=1 MLP": "model.dropout=1.0: must be at least 0 and less than 1",
    "model.head=mlp plan=simultaneous": "model.head",
    "model.head=predsim model.pool=3": "model.pool=3 has no effect: it needs model.head=cnn",
    "model.head=mlp_sr -model.head_width dataset.limit=193": "leaves a last batch of 1 of the 193 samples",
    "model.head=predsim model.pool_overlap=false": "model.pool_overlap=False has no effect: it needs model.head=cnn",
    "optimizer.decay_at=[0.5,1]": "optimizer.decay_at=[0.5, 1.0]: must be a list of fractions",
    "optimizer.decay_at=[0.5,0.2]": "ascending order",
    "experiment=paper_imagenet_k1": "unknown choice … paper_imagenet_k1_table",
    "model.head_scale=0.1": "model.head_scale=0.1 … model.head=pooled",
    "model.head=pooled model.pool=3": "model.pool=3 … model.head=cnn",
    "k=1 model.final_head_width=4": "model.final_head_width=4 has no effect: it needs … k=2 or more",
    "model.input_downsample=true model.downsample=[1,2]": "falls below 2×2 at block 2",
    "model.widths=[4,4,4]": "model.width=8 conflicts with model.widths=[4, 4, 4]",
    "model.widths=[4,4,4] -model.width": "J=2 … 3 block(s)",
    "model.head_widths=[4,4,4] -model.head_width": "model.head_widths … J=2",
    "model.head_widths=[4,4]": "model.head_width=8 conflicts with model.head_widths=[4, 4]",
    "model.head_widths=[4,0]": "model.head_widths=[4, 0] … 1 or more each",
    "model.head_widths=[4,4] -model.head_width model.head=predsim": "model.head=cnn or pooled",
    "model.widths=[8,8] -model.width plan.prune_to=4": "plan.prune_to=4 … model.widths",
    "model=mlp model.width=4 model.widths=[4,4] MLP": "conflicts with model.widths=[4, 4]",
    "model=mlp -model.width model.widths=[4,0] MLP": "must be a list of widths, 1 or more each",
    "model=mlp -model.width model.widths=[4,4,4] MLP": "J=2 conflicts with model.widths=[4, 4, 4] of 3 block(s)",
    "model.initialisation=he_uniform": "model.initialisation=he_uniform … model=simcnn … dirac",
    "model.whiten_patch=2": "model.whiten_patch=2 … model.whiten_input=true",
    "model=vgg model.whiten_input=true OWN": "model.whiten_input",
    "model.norm_scale=false model.batch_norm=false": "model.norm_scale=False … model.batch_norm",
    "model.norm_momentum=0": "model.norm_momentum=0 … more than 0",
    "model=timm OWN": "choose a network with model.name",
    "model=timm model.name=resnet81 OWN": "timm has no such network. Did you mean resnet18",
    "model=timm model.name=legacy_xception OWN": "cannot be cut into blocks",
    "model=timm model.name=resnet18 OWN J=3": "resnet18 has 5 block",
    "model=timm model.name=resnet18 model.head=pooled OWN": "model.head=pooled. Use cnn, mlp_sr, predsim, aux_1c2f",
    "model=vgg model.depth=12 OWN": "there is no such VGG. Known: 11, 13, 16, 19",
    "model=vgg OWN": "8×8 pixels are too small",
    "experiment=paper_imagenet_k3_head512 model=vgg OWN": "model.final_head_width=512: model=vgg has no",
    # Losses and optimisers
    "objective.similarity=1.5": "objective.similarity=1.5: must be at least 0 and at most 1",
    "objective.reconstruction=cross_entropy": "Use binary_cross_entropy",
    "plan=autoencoder objective.reconstruction=binary_cross_entropy": "dataset.standardise=false",
    "objective.loss=squared_error objective.label_smoothing=0.1": "is for cross-entropies",
    "objective.loss=hinge": "objective.loss",
    "objective.l1=-1": "objective.l1=-1.0: must be 0 or more",
    "optimizer=timm": "optimizer=timm: choose one with optimizer.name",
    "optimizer=timm optimizer.name=lmab": "Did you mean 'lamb'?",
    "optimizer.average=1": "optimizer.average=1 … less than 1",
    "optimizer.start=0.2": "optimizer.start=0.2 … onecycle",
    "optimizer.warmup=0.1": "optimizer.warmup=0.1 … onecycle",
    "optimizer.final=0.1 optimizer.schedule=cosine": "optimizer.final=0.1 … it needs optimizer.schedule=onecycle",
    "optimizer.warmup=1 optimizer.schedule=onecycle": "optimizer.warmup=1 … less than 1",
    "optimizer.final=-1 optimizer.schedule=onecycle": "optimizer.final=-1 … at least 0",
    # Data
    "dataset=blobs": "Use model=mlp",
    "dataset=table dataset.path=x.csv dataset.separator=ab model=mlp -model.width MLP": "separator=ab … one character",
    "logger=wandb logger.wandb.tags=['']": "logger.wandb.tags=[''] … 1 to 64 characters",
    "model.head_widths='${oc.env:NOTHING}'": "model.head_widths=${oc.env:NOTHING}: … 'NOTHING' not found",
    "dataset.folds=3 dataset.fold=4": "dataset.fold=4 … dataset.folds=3 … count from 1",
    "dataset.fold=2": "dataset.fold=2 … it needs dataset.folds",
    "dataset.fold=0": "dataset.fold=0 … 1 or more",
    "dataset.folds=1": "dataset.folds=1 … 2 or more",
    "dataset.folds=5000": "dataset.folds=5000 … 1437 training samples … fewer folds",
    "dataset.folds=3 dataset.validation=0.1": "dataset.folds=3 … Leave out dataset.validation",
    "dataset.labelled=0": "dataset.labelled=0 … must be more than 0 and at most 1",
    "dataset.labelled=0.01": "dataset.labelled=0.01 … of 200 training samples … larger fraction",
    "dataset.labelled=0.001": "dataset.labelled=0.001 … leaves 1",
    "dataset.labelled=0.2": "batch_size=64 … only 40 labelled training samples … batch_size=40",
    "plan=autoencoder dataset.labelled=0.1": "there are only 20 labelled training samples",
    "dataset.class_weights=equal": "dataset.class_weights=equal … balanced … a list of numbers above 0",
    "dataset.class_weights=[1,2]": "dataset.class_weights=[1, 2] … a list of 10 numbers above 0",
    "dataset.padding=8": "dataset.padding=8 … less than the 8 pixels",
    "dataset.border=reflect dataset.augment=false": "dataset.border=reflect … dataset.augment",
    "evaluation.mirror=true": "evaluation.mirror=true … are not mirrored",
    "evaluation.mirror=true dataset=blobs model=mlp -model.width MLP": "evaluation.mirror=true … a vector",
    # Processes and jobs
    "distributed.parallel=blocks": "distributed.parallel=blocks … plan=simultaneous",
    "distributed.parallel=blocks plan=simultaneous plan.finetune.epochs=1": "plan.finetune",
    "distributed.parallel=blocks plan=simultaneous optimizer.clip_norm=1": "optimizer.clip_norm=null",
    "distributed.parallel=blocks plan=simultaneous precision=fp16": "precision=bf16",
    "slurm.gpus=-1": "slurm.gpus=-1: must be 0 or more.",
    "slurm.cpus=0": "slurm.cpus=0: must be 1 or more.",
    "slurm.memory_gb=0": "slurm.memory_gb=0: must be 1 or more.",
    "slurm.minutes=0": "slurm.minutes=0: must be 1 or more.",
    "slurm.parallel=0": "slurm.parallel=0: must be 1 or more.",
    # Loggers
    "logger=tensorbord": "logger=tensorbord: unknown choice … 'tensorboard'",
    "logger=[wandb,tensorbord]": "logger=tensorbord: unknown choice … 'tensorboard'",
    "logger.wandb.mode=offline": "unknown key 'logger.wandb.mode' … Another choice of logger",
    "logger=wandb logger.wandb.project=my/project": "logger.wandb.project=my/project: must be a name",
    "logger=wandb logger.wandb.mode=off-line": "logger.wandb.mode",
}
"""Overrides and the message, whose parts "…" separates. `-KEY` leaves out a key of the tiny run."""

SHORT = {"MLP": ["-model.head_width", "-model.downsample"]}
SHORT["OWN"] = [*SHORT["MLP"], "-model.width", "-J"]
"""Keys that a perceptron does not have, and a network of its own size."""


@pytest.mark.parametrize(("words", "message"), REFUSED.items(), ids=list(REFUSED))
def test_what_cannot_be_is_refused(train_py, tmp_path, words, message):
    given = [word for short in words.split() for word in SHORT.get(short, [short])]
    left_out = {word[1:]: None for word in given if word.startswith("-")}
    outcome = train_py(*(word for word in given if not word.startswith("-")), **left_out)
    assert outcome.code == 2
    assert_refused(outcome, *message.split(" … "))
    begun = "in the search" in message
    assert begun or not list((tmp_path / "out").glob("*"))  # no folder of a run that never began


FOLDS = "cross_validate experiment=tutorial_blobs_supervised output_dir=FOLDER/out --folds"
COMMANDS = {
    "anytime": "the following arguments are required: RUN",
    "anytime run=FOLDER": "run folder",
    "anytime run=FOLDER point=3": "Did you mean 'points'?",
    "anytime run=FOLDER points=1": "--points: 1 is too small: use 2 or more",
    "anytime run=FOLDER on=both": "invalid choice: 'both'",
    "probe": "the following arguments are required: RUN",
    "probe run=FOLDER": "run folder",
    "probe run=FOLDER epoch=3": "Did you mean 'epochs'?",
    "probe run=FOLDER epochs=0": "--epochs: 0 is too small: use 1 or more",
    "probe run=FOLDER epochs=many": "--epochs: invalid number value",
    "collect FOLDER": "FOLDER: holds no runs.",
    "collect MISSING": "MISSING: no such folder.",
    "collect FOLDER --over sede": "--over sede: unknown key. Did you mean 'seed'?",
    "make_report FOLDER": "FOLDER: holds no runs",
    "make_report MISSING": "MISSING: no such folder",
    "make_figures FOLDER": "no finished block found",
    "make_figures MISSING": "no such file or folder",
    "propositions --check=3.3": "--check: invalid choice: '3.3'",
    "propositions --J=1": "--J: 1 is too small: use 2 or more",
    "propositions --epochs=2 --shorter=2": "--shorter 2: must be less than --epochs 2",
    "propositions --depth=3": "unrecognized arguments: --depth=3",
    "tutorials blob": "blob: no such tutorial",
    f"{FOLDS} 1": "--folds 1: must be 2 or more",
    f"{FOLDS} 3 dataset.fold=2": "dataset.fold=…: set for each fold",
    f"{FOLDS} 3 +dataset.folds=4": "dataset.folds=…: set by --folds",
    f"{FOLDS} 3 name=mine": "name=…: each fold has its own run folder",
    f"{FOLDS} 3 epochs=0": "epochs=0: must be 1 or more",
    f"{FOLDS} 3 epoch=1": "unknown key 'epoch'",
    f"{FOLDS} 3 dataset.validation=0.2": "dataset.folds=3 … Leave out dataset.validation",
}
"""Commands and the message. FOLDER is empty, and MISSING is not there."""


@pytest.mark.parametrize(("words", "message"), COMMANDS.items(), ids=list(COMMANDS))
def test_what_a_command_cannot_do_is_one_message(tmp_path, words, message):
    folder = tmp_path / "FOLDER"
    folder.mkdir()
    places = words.replace("FOLDER", str(folder)).replace("MISSING", str(tmp_path / "MISSING"))
    outcome = run_script(*places.split())
    assert outcome.code == 2
    assert_refused(outcome, *message.split(" … "))
    assert len(outcome.err.splitlines()) == 1
    assert not list(folder.iterdir())


FIGURES = {
    "{": "results.json is damaged",
    '{"3.1": 1}': "not written by scripts/reproduce.py",
    '{"set": "x", "rows": [{"experiment": "x", "status": "not run"}]}': "no finished block found",
}


@pytest.mark.parametrize(("content", "message"), FIGURES.items())
def test_files_without_figures_are_refused(tmp_path, content, message):
    (tmp_path / "results.json").write_text(content)
    outcome = run_script("make_figures", str(tmp_path / "results.json"), "--output", str(tmp_path / "figures"))
    assert_refused(outcome, message)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("command", ["make_figures", "anytime"])
def test_a_missing_library_is_named(tmp_path, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert_refused(run_script(command, str(tmp_path)), "pip install matplotlib")
