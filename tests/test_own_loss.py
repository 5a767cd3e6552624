"""Held-out samples are scored by the loss of another package that was trained."""

from __future__ import annotations

import json

import pytest
import torch

from helpers.run_folders import metrics_of, results_of
from layerwise.__main__ import main
from layerwise.config.build import data
from layerwise.config.parse import from_yaml
from layerwise.config.resolve import resolve
from layerwise.core.errors import LayerwiseError
from layerwise.training.scoring import ClassScoring, OwnLoss, ValueScoring

OWN_LOSSES = """
from layerwise.training.objectives import Reconstruction


class MeanLabel:
    def __call__(self, z, targets):
        return (0 * z).sum() + targets.float().mean()


class Seven:
    target = "inputs"

    def __init__(self, classes):
        pass

    def __call__(self, readouts, targets):
        terms = Reconstruction()(readouts, targets)
        return {**terms, "means": {"loss": [7 + 0 * loss for loss in terms["means"]["loss"]]}}
"""


@pytest.fixture
def own_losses(monkeypatch, tmp_path):
    """`own_losses.MeanLabel` is the mean label of a batch; `own_losses.Seven` says that each reconstruction costs 7."""
    (tmp_path / "own_losses.py").write_text(OWN_LOSSES)
    monkeypatch.syspath_prepend(tmp_path)


def evaluated(capfd, *words) -> dict:
    capfd.readouterr()
    main(["evaluate", *map(str, words), "--device", "cpu", "--format", "json"])
    return json.loads(capfd.readouterr().out)


def test_held_out_samples_are_scored_by_the_loss_that_was_trained(own_losses, trained, capfd):
    held_out = {"dataset.validation": 0.2, "evaluation.train": "true", "evaluation.every": 1}
    folder = trained(**held_out, **{"objective._target_": "own_losses.MeanLabel"})
    config = from_yaml(folder / "config.yaml")
    labels = data.build_data(resolve(config), data.build_spec(resolve(config)), torch.device("cpu")).labels
    wanted = {split: pytest.approx(labels[split].float().mean().item()) for split in ("train", "validation", "test")}
    rows = results_of(folder)["blocks"]
    assert [row["validation"]["loss"] for row in rows] == [wanted["validation"]] * 2
    assert [row["test"]["loss"] for row in rows] == [wanted["test"]] * 2  # of batches of 64 and of 36
    assert [line["test"]["loss"] for line in metrics_of(folder)] == [wanted["test"]] * 4
    trusted, plain = (evaluated(capfd, folder, "--split", "validation", *more) for more in (["--trust"], []))
    assert [row["scores"]["loss"] for row in trusted["blocks"]] == [wanted["validation"]] * 2
    assert [{**row["scores"], "loss": 0} for row in plain["blocks"]] == [
        {**row["scores"], "loss": 0} for row in trusted["blocks"]
    ]
    assert all("loss" not in row["scores"] for row in plain["blocks"])
    assert "objective._target_=own_losses.MeanLabel" in plain["notes"][0]
    main(["evaluate", str(folder)])
    assert "–" in capfd.readouterr().out


def test_a_loss_that_compares_samples_is_the_mean_of_batches_weighted_by_their_sizes():
    loss = OwnLoss(lambda z, targets: (z[:, 0] - targets).max(), "x", batch_size=2, device=torch.device("cpu"))
    z = torch.tensor([[1.0], [5.0], [2.0], [2.0], [9.0]])
    zero = torch.zeros(5, dtype=torch.int64)
    assert ClassScoring("cross_entropy", ("a",), loss).loss(z, zero) == (2 * 5 + 2 * 2 + 9) / 5
    of_values = OwnLoss(lambda z, targets: (z - targets).abs().max(), "x", 2, torch.device("cpu"))
    assert ValueScoring("squared_error", 1.0, of_values).loss(z, torch.ones(5)) == (2 * 4 + 2 * 1 + 8) / 5
    wrong = OwnLoss(lambda z, targets: z.missing, "objective._target_=x", 2, torch.device("cpu"))
    with pytest.raises(LayerwiseError, match=r"objective\._target_=x, called with held-out scores: raised Attribute"):
        wrong(z, zero)


def test_the_kept_epoch_of_a_decoder_is_the_best_by_its_own_objective(own_losses, trained):
    folder = trained(
        **{"plan": "autoencoder", "checkpoint.keep": "best", "dataset.validation": 0.2, "epochs": 3},
        **{"objective._target_": "own_losses.Seven", "model": "mlp", "k": 1},
        **dict.fromkeys(["model.width", "model.head_width", "model.downsample"]),
    )
    decoded = [entry for entry in results_of(folder)["stages"] if entry["target"] == "inputs"]
    assert [entry["kept_epoch"] for entry in decoded] == [1] * len(decoded)  # of equals the first
    errors = [row["reconstruction"] for row in results_of(folder)["blocks"] if "reconstruction" in row]
    assert [scores["validation"]["loss"] for scores in errors] == [7.0] * len(errors)
    assert len(errors) > 0
