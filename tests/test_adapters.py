"""Data sets of other libraries: dataset=torchvision and dataset=huggingface."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.datasets import VisionDataset

import layerwise
from helpers.commands import assert_refused
from helpers.run_folders import only_run, results_of
from layerwise.analysis.predicting import read_image
from layerwise.core.errors import LayerwiseError
from layerwise.data import adapters
from layerwise.data.own import Own, checked_samples

CLASSES = ["cat", "dog"]


def picture(label: int, i: int, side: int = 8, mode: str = "RGB") -> Image.Image:
    """Dark for class 0, bright for class 1."""
    pixels = np.random.default_rng([label, i]).integers(0, 100, (side, side, 3)) + 150 * label
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


class Pets(VisionDataset):
    """Like torchvision's own ones: a split by its name, and no download."""

    sides = (8,)
    mode = "RGB"

    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root)
        if split not in ("train", "val"):
            raise ValueError(f"Unknown value '{split}' for argument split. Valid values are train, val.")
        self.size = 60 if split == "train" else 20
        self.classes = CLASSES

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if i >= self.size:
            raise IndexError
        return picture(i % 2, i, self.sides[i % len(self.sides)], self.mode), i % 2


@pytest.fixture
def pets(monkeypatch: pytest.MonkeyPatch) -> type[Pets]:
    monkeypatch.setattr(torchvision.datasets, "Pets", Pets, raising=False)
    return Pets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of images in the form of the Hub: SPLIT/CLASS/NAME.png."""
    for split, size in (("train", 60), ("test", 20)):
        for i in range(size):
            path = tmp_path / "images" / split / CLASSES[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(i % 2, i).save(path)
    return tmp_path / "images"


KEYS = {"dataset.limit": None, "dataset.limit_test": None, "batch_size": 20, "model.downsample": None}


def test_a_torchvision_data_set_trains_and_loads_without_being_trusted(pets, trained):
    run = trained(
        **KEYS | {"dataset": "torchvision", "dataset.source": "Pets", "dataset.mirror": "true", "report": "true"}
    )
    assert results_of(run)["final"]["test_top1"] == 100
    spec = layerwise.load(run).spec
    assert (spec.classes, spec.flip) == (tuple(CLASSES), True)
    assert (run / "report.html").exists()


def test_images_are_resized_and_grey_ones_stay_grey(pets, monkeypatch, tmp_path):
    monkeypatch.setattr(Pets, "sides", (8, 10))
    with pytest.raises(LayerwiseError, match=r"2 sizes. Set dataset.side=PIXELS"):
        adapters.torchvision("Pets", tmp_path)
    assert adapters.torchvision("Pets", tmp_path, side=6).train[0].shape == (60, 6, 6, 3)
    monkeypatch.setattr(Pets, "mode", "L")
    images, labels = adapters.torchvision("Pets", tmp_path, side=8).test
    assert images.shape == (20, 8, 8, 1)
    expected = torch.from_numpy(np.array(picture(0, 0, 8, "L")))
    torch.testing.assert_close(images[0, ..., 0], expected)
    assert labels.tolist() == [0, 1] * 10


@pytest.mark.parametrize(
    ("keys", "messages"),
    [
        ({"dataset.source": "Pet"}, ["dataset.source=Pet", "no such data set"]),
        ({"dataset.source": "cifar"}, ["dataset.source=cifar", "no such data set"]),
        ({"dataset.source": "VOCDetection"}, ["no training and test split"]),
        ({"dataset.source": "Pets", "dataset.test_split": "test"}, ["Unknown value 'test'", "dataset.source=Pets"]),
        ({"dataset.source": "Pets", "dataset.sides": 3}, ["dataset.sides", "'dataset.side'"]),
        ({}, ["dataset.source"]),
    ],
)
def test_what_torchvision_does_not_have_is_refused(pets, train_py, tmp_path, keys, messages):
    assert_refused(train_py(**KEYS | {"dataset": "torchvision"} | keys), *messages)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_the_hub_trains(folder, train_py, tmp_path):
    keys = KEYS | {"dataset": "huggingface", "dataset.repository": folder, "dataset.root": tmp_path / "data"}
    outcome = train_py(**keys)
    assert outcome.code == 0, outcome.err
    run = only_run(tmp_path)
    assert results_of(run)["final"]["test_top1"] == 100
    assert layerwise.load(run).spec.classes == tuple(CLASSES)


def test_columns_of_names_are_classes_and_wrong_ones_are_named(tmp_path):
    datasets = pytest.importorskip("datasets")
    for split, names in (("train", ["b", "a", "b"]), ("validation", ["a", "a"])):
        rows = {"photo": [picture(0, i) for i in range(len(names))], "kind": names}
        features = datasets.Features({"photo": datasets.Image(), "kind": datasets.Value("string")})
        part = datasets.Dataset.from_dict(rows, features=features)
        (tmp_path / "set").mkdir(exist_ok=True)
        part.to_parquet(str(tmp_path / "set" / f"{split}.parquet"))
    place, root = str(tmp_path / "set"), tmp_path / "data"
    found = adapters.huggingface(place, root, label_column="kind")
    assert (found.classes, found.train[1].tolist(), found.test[1].tolist()) == (("a", "b"), [1, 0, 1], [0, 0])
    torch.testing.assert_close(found.train[0][2], torch.from_numpy(np.array(picture(0, 2))))
    for words, message in (
        ({}, "dataset.label_column: choose one of the columns photo, kind"),
        ({"label_column": "kin"}, "dataset.label_column=kin: there is no such column. Did you mean 'kind'?"),
        ({"label_column": "kind", "test_split": "tests"}, "dataset.test_split=tests: .* train, validation"),
        ({"label_column": "kind", "subset": "x"}, "dataset.repository=.*cannot be loaded"),
    ):
        with pytest.raises(LayerwiseError, match=message):
            adapters.huggingface(place, root, **words)


def test_a_data_set_that_is_nowhere_is_one_message(train_py, tmp_path):
    keys = KEYS | {"dataset": "huggingface", "dataset.repository": tmp_path / "none"}
    assert_refused(train_py(**keys), f"dataset.repository={tmp_path}/none", "cannot be loaded")


def test_16_bit_and_palette_images_keep_their_colours(pets, monkeypatch, tmp_path):
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000 + 500
    colours = [Image.new("RGB", (8, 8), colour) for colour in ((250, 10, 20), (0, 0, 255))]
    for images, expected in (
        ([Image.fromarray(levels)] * 2, [torch.from_numpy((levels >> 8).astype(np.uint8))[..., None]] * 2),
        ([c.quantize(2) for c in colours], [torch.from_numpy(np.array(c)) for c in colours]),
    ):
        monkeypatch.setattr(Pets, "__getitem__", lambda self, i, images=images: (images[i % 2], i % 2))
        for part in (
            adapters.torchvision("Pets", tmp_path).train,
            checked_samples((Pets("x"), Pets("x", "val")), "x").train,
        ):
            torch.testing.assert_close(part[0][:2], torch.stack(expected))
    monkeypatch.setattr(Pets, "__getitem__", lambda self, i: (Image.fromarray(np.full((8, 8), 7.5, np.float32)), 0))
    with pytest.raises(LayerwiseError, match=r"Pets: sample 0: its 32-bit floats .* are not in \[0, 1\]"):
        adapters.torchvision("Pets", tmp_path)


def test_predict_prepares_an_image_as_the_data_set_does(pets, monkeypatch, tmp_path):
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 48, 3)).astype(np.uint8))
    wide.save(tmp_path / "wide.png")
    monkeypatch.setattr(Pets, "__getitem__", lambda self, i: (wide, i % 2))
    spec = Own("pets", adapters.torchvision("Pets", tmp_path, side=12)).spec()
    held_out = adapters.torchvision("Pets", tmp_path, side=12).test[0][0]  # [H, W, C]
    torch.testing.assert_close(read_image(spec, tmp_path / "wide.png").permute(1, 2, 0), held_out)
    plain = Own("pets", adapters.torchvision("Pets", tmp_path)).spec()  # all of 16 × 48
    whole = torch.from_numpy(np.array(wide))
    torch.testing.assert_close(read_image(plain, tmp_path / "wide.png").permute(1, 2, 0), whole)
    half = wide.resize((24, 8), resample=2)
    half.save(tmp_path / "half.png")
    assert read_image(plain, tmp_path / "half.png").shape == (3, 16, 48)
    with pytest.raises(LayerwiseError, match="image files have 1 or 3 channels, and the run was trained on 4"):
        read_image(replace(plain, shape=(4, 16, 48)), tmp_path / "half.png")


def test_splits_by_name_are_refused_where_there_are_none(pets, monkeypatch, tmp_path):
    monkeypatch.setattr(Pets, "__init__", lambda self, root, train=True: None)
    with pytest.raises(LayerwiseError, match=r"dataset\.test_split=val: Pets has no splits by name"):
        adapters.torchvision("Pets", tmp_path, test_split="val")


@pytest.mark.parametrize(
    ("labels", "photos", "message"),
    [
        ([0, None, 1], 3, "1 of 3 samples of train have no label in kind"),
        ([0, -1, -1], 3, "2 of 3 samples of train have no label in kind.*dataset.train_split"),
        ([0.5, 1.5, 0.5], 3, "dataset.label_column=kind: holds 0.5"),
        ([0, 1, 0], 2, "sample 2 has no image"),
    ],
)
def test_samples_without_an_image_or_a_class_are_refused(tmp_path, labels, photos, message):
    datasets = pytest.importorskip("datasets")
    rows = {"photo": [picture(0, i) if i < photos else None for i in range(3)], "kind": labels}
    number = "float32" if isinstance(labels[0], float) else "int64"
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.Value(number)})
    (tmp_path / "set").mkdir()
    for split in ("train", "test"):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "set" / f"{split}.parquet"))
    with pytest.raises(LayerwiseError, match=message):
        adapters.huggingface(str(tmp_path / "set"), tmp_path / "data", label_column="kind")
