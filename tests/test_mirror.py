"""evaluation.mirror: class scores are means over an image and its mirror image, and it is said so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.utils import save_image

import layerwise
from helpers.caches import stores
from helpers.networks import tiny_net
from helpers.run_folders import numbers, results_of
from helpers.training import FP32, PLAN
from layerwise.analysis.anytime import Predictor, measure
from layerwise.analysis.predicting import predict as predict_images
from layerwise.analysis.predicting import read_image
from layerwise.core.errors import LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.features.sources import Cached, Recompute
from layerwise.models.blocknet import Segment
from layerwise.training.evaluate import predict


@pytest.mark.parametrize("cached", [False, True])
def test_the_features_of_mirror_images_are_recomputed(tiny_data, cached):
    net = tiny_net().eval()
    source = Recompute(tiny_data, PLAN, FP32)
    if cached:
        source = Cached(source, stores(None), 2, StopRequest())
    source.advance([net.blocks[0]])
    seen = torch.cat([batch.inputs for batch in source.evaluate("test", mirrored=True)])
    images = torch.cat([batch.inputs for batch in tiny_data.batches("test", torch.arange(30), 16)])
    with torch.no_grad():
        torch.testing.assert_close(seen, net.blocks[0](images.flip(3)))
        assert not torch.allclose(seen, net.blocks[0](images))


@pytest.fixture
def images(tmp_path) -> Path:
    """Bright spots, on the left of class a and in the middle of class b."""
    generator = torch.Generator().manual_seed(0)
    for split, n in (("train", 64), ("val", 20)):
        for name, column in (("a", 1), ("b", 3)):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(n):
                image = torch.rand(3, 8, 8, generator=generator) / 2
                image[:, int(torch.randint(0, 7, (), generator=generator)) :, column] += 0.3
                save_image(image, tmp_path / "images" / split / name / f"{i}.png")
    return tmp_path / "images"


def test_a_run_and_its_predictions_average_over_both(train_py, tmp_path, images):
    options = {"dataset": "imagefolder", "dataset.root": images, "dataset.size": 8, "dataset.validation": 0.2}
    options |= {"precision": "fp32", "dataset.limit": None, "dataset.limit_test": None, "evaluation.every": 1}
    for mirror in ("true", "false"):
        outcome = train_py(name=f"mirror-{mirror}", **options, **{"evaluation.mirror": mirror})
        assert outcome.code == 0, outcome.err
    folders = [tmp_path / "out" / f"mirror-{mirror}" for mirror in ("true", "false")]
    results = [results_of(folder) for folder in folders]
    assert [found["mirrored"] for found in results] == [True, False]
    rows = [numbers(found) for found in results]
    assert rows[0][0]["train"] == rows[1][0]["train"]
    assert rows[0][0]["test"] != rows[1][0]["test"]

    net, plain = (layerwise.load(folder) for folder in folders)
    files = sorted((images / "val").rglob("*.png"))
    values = torch.stack([read_image(net.spec, path) for path in files])
    labels = [net.spec.classes.index(path.parent.name) for path in files]
    made = predict_images(net, values)
    right = [guess.result.name == net.spec.classes[c] for guess, c in zip(made, labels, strict=True)]
    assert 100 * sum(right) / len(right) == pytest.approx(results[0]["final"]["test_top1"])
    for guess, mirrored in zip(made, predict_images(net, values.flip(3)), strict=True):
        assert guess.result.confidence == pytest.approx(mirrored.result.confidence, rel=1e-5)
    x = plain.normalise(values)
    with torch.no_grad():
        expected = ((plain(x) + plain(x.flip(3))) / 2).softmax(1).max(1)
    assert [guess.result.confidence for guess in made] == pytest.approx(expected.values.tolist(), rel=1e-4)

    with pytest.raises(LayerwiseError, match=r"evaluation\.mirror"):
        measure(folders[0], Predictor.head, points=3)


def test_the_scores_of_an_image_and_its_mirror_image_are_averaged(tiny_data):
    segment = Segment(tiny_net(), 0, 1, (1,))
    source = Recompute(tiny_data, PLAN, FP32)
    both = [predict(segment, source.evaluate("test", mirrored=mirrored), FP32)[1] for mirrored in (False, True)]
    assert not torch.allclose(*both)
