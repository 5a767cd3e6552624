"""Runs on the real CIFAR-10: `LAYERWISE_DATA=FOLDER pytest -m real_data`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from conftest import CPU, only_run, results_of

from layerwise.data import describe, load

pytestmark = pytest.mark.real_data
DATA = Path(os.environ.get("LAYERWISE_DATA", "data"))


def test_cifar10_is_complete_and_has_the_statistics_that_it_is_normalised_with():
    spec = describe("cifar10", DATA)
    data = load(spec, DATA, CPU)
    train = data.splits["train"]
    assert (len(train), len(data.splits["test"])) == (50_000, 10_000)
    assert torch.bincount(train.labels).tolist() == [5000] * 10
    x = train.images.reshape(-1, 3).double() / 255
    torch.testing.assert_close(x.mean(0), torch.tensor(spec.mean, dtype=torch.float64), atol=1e-4, rtol=0)
    # the deviations of the paper's code are means over images of an image's deviation, not those of all pixels
    per_image = (train.images.double() / 255).flatten(1, 2).std(1).mean(0)
    torch.testing.assert_close(per_image, torch.tensor(spec.std, dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_narrow_network_learns_on_5000_images_and_its_ensemble_keeps_up(train_py, tmp_path):
    """`dataset.limit=5000` variant of the README's laptop example."""
    outcome = train_py(
        experiment="laptop_cifar10",
        dataset="cifar10",
        k=3,
        J=4,
        batch_size=128,
        epochs=4,
        **{
            "dataset.root": DATA,
            "dataset.limit": 5000,
            "dataset.limit_test": "null",
            "model.width": 32,
            "model.head_width": 32,
            "model.downsample": "null",
        },
    )
    assert outcome.code == 0, outcome.err
    results = results_of(only_run(tmp_path))
    assert len(results["blocks"]) == 4
    final = results["final"]
    assert final["test_top1"] > 35  # chance is 10
    assert final["ensemble_top1"] > final["test_top1"] - 1  # so few images: within the noise of one run
