"""Data sets: what is read, held out, limited, and refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets.utils import calculate_md5

from helpers.data import CPU
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key
from layerwise.data.factory import load
from layerwise.data.images.imagefolder import ImageFolder
from layerwise.data.split import balanced_order, limit
from layerwise.data.torchvision_sets import SETS, STL10
from layerwise.data.toy import DIGITS, Digits


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_every_prefix_of_a_balanced_order_is_balanced(labels, seed):
    targets = torch.tensor(labels)
    order = balanced_order(targets, key("x", seed))
    assert order.sort().values.tolist() == list(range(len(labels)))
    sizes = torch.bincount(targets)
    for n in range(1, len(labels) + 1):
        counts = torch.bincount(targets[order[:n]], minlength=len(sizes))
        unfinished = counts[counts < sizes]  # classes that still have samples differ by one at most
        if len(unfinished):
            assert counts.max() - unfinished.min() <= 1


def test_a_smaller_limit_is_a_prefix_of_a_larger_one_and_seeds_differ():
    labels = torch.arange(100) % 10
    small, large = limit(labels, 20, 0, "dataset.limit"), limit(labels, 50, 0, "dataset.limit")
    assert torch.equal(small, large[:20])
    assert torch.bincount(labels[small]).tolist() == [2] * 10
    assert not torch.equal(small, limit(labels, 20, 1, "dataset.limit"))


def test_a_validation_split_leaves_the_test_set_alone():
    plain, held = (load(Digits(), CPU, validation=v, limit_train=500) for v in (0.0, 0.2))
    assert torch.equal(plain.splits["test"].values, held.splits["test"].values)
    assert len(held.splits["validation"]) == round(0.2 * DIGITS.train_samples)
    assert len(held.splits["train"]) == 500
    samples = [set(held.splits[name].samples.tolist()) for name in ("train", "validation")]
    assert not samples[0] & samples[1]


def test_digits_are_what_the_specification_says():
    spec, data = DIGITS, load(Digits(), CPU)
    train = data.splits["train"]
    assert (len(train), len(data.splits["test"])) == (spec.train_samples, spec.test_samples)
    assert train.values.shape[1:] == (8, 8, 1)
    assert torch.bincount(data.splits["test"].labels).tolist() == [36] * 10
    x = train.values.double() / 255
    assert x.mean().item() == pytest.approx(spec.mean[0], abs=0.01)
    assert x.std().item() == pytest.approx(spec.std[0], abs=0.01)


def write_cifar(root: Path, name: str, monkeypatch, per_file: int = 20) -> Path:
    """A small CIFAR in the official format, with its own MD5 sums as the official ones."""
    cifar = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = root / cifar.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lists = {}
    for attribute in ("train_list", "test_list"):
        lists[attribute] = []
        for file, _ in getattr(cifar, attribute):
            images = rng.integers(0, 256, (per_file, 3072), dtype=np.uint8)
            labels = [i % 10 for i in range(per_file)]
            (folder / file).write_bytes(pickle.dumps({"data": images, "labels": labels, "fine_labels": labels}))
            lists[attribute].append([file, calculate_md5(str(folder / file))])
        monkeypatch.setattr(cifar, attribute, lists[attribute])
    names = [str(c) for c in range(10)]
    meta = dict(cifar.meta)
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: names}))
    monkeypatch.setattr(cifar, "meta", meta | {"md5": calculate_md5(str(folder / meta["filename"]))})
    return folder


@pytest.mark.parametrize(("name", "train_samples"), [("cifar10", 100), ("cifar100", 20)])
def test_cifar_is_read_from_its_files(tmp_path, monkeypatch, name, train_samples):
    folder = write_cifar(tmp_path, name, monkeypatch)
    (images, labels), test = SETS[name](tmp_path).tensors()
    assert images.shape == (train_samples, 32, 32, 3)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert len(test[0]) == 20
    damaged = next(folder.glob("test*"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(LayerwiseError, match=f"{damaged.name} is damaged"):
        SETS[name](tmp_path).tensors()
    damaged.unlink()
    with pytest.raises(LayerwiseError, match=f"{damaged.name} is missing"):
        SETS[name](tmp_path).tensors()


def test_svhn_is_read_from_its_files(tmp_path, monkeypatch):
    lists = dict(datasets.SVHN.split_list)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
    for split in ("train", "test"):
        url, file, _ = lists[split]
        savemat(tmp_path / file, {"X": pixels, "y": np.array([[i % 10 + 1] for i in range(12)])})
        lists[split] = [url, file, calculate_md5(str(tmp_path / file))]
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    (images, labels), _ = SETS["svhn"](tmp_path).tensors()
    assert np.array_equal(images[5].numpy(), pixels[..., 5])
    assert labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]  # the file says 10 for a zero


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_grey_images_are_read_from_their_files(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(12, dtype=np.uint8) % 10))
    (images, labels), _ = SETS[name](tmp_path).tensors()
    assert np.array_equal(images[3, :, :, 0].numpy(), pixels[3])
    assert labels.tolist() == [i % 10 for i in range(12)]
    (raw / "train-images-idx3-ubyte").write_bytes(idx(pixels)[:100])
    with pytest.raises(LayerwiseError, match=name):
        SETS[name](tmp_path).tensors()


def test_stl10_is_read_from_its_files(tmp_path, monkeypatch):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96), dtype=np.uint8)  # the file has columns first
    for attribute in ("train_list", "test_list"):
        for entry in (entries := [list(entry) for entry in getattr(datasets.STL10, attribute)]):
            labels = np.array([1, 2, 10], dtype=np.uint8)
            (folder / entry[0]).write_bytes((pixels if "_X" in entry[0] else labels).tobytes())
            entry[1] = calculate_md5(str(folder / entry[0]))
        monkeypatch.setattr(datasets.STL10, attribute, entries)
    (folder / "class_names.txt").write_text("\n".join(STL10.classes))
    (images, labels), test = SETS["stl10"](tmp_path).tensors()
    assert np.array_equal(images[1, :, :, 2].numpy(), pixels[1, 2].T)
    assert labels.tolist() == [0, 1, 9]
    assert len(test[1]) == 3


def test_tiny_imagenet_is_a_folder_of_classes(tmp_path):
    """Training images lie one folder deeper than the class."""
    for path in ("train/n01/images/a.JPEG", "train/n02/images/b.JPEG", "val/n01/c.JPEG", "val/n02/d.JPEG"):
        (tmp_path / path).parent.mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / path)
    spec = ImageFolder(tmp_path, size=64).spec()
    assert (spec.classes, spec.train_samples, spec.test_samples) == (("n01", "n02"), 2, 2)


@pytest.fixture
def folder(tmp_path) -> Path:
    """train/ and val/ with two classes; `b` is brighter; one image is wide, one is a PNG."""
    for split, n in (("train", 5), ("val", 2)):
        for label, name in enumerate(("a", "b")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(n):
                grey = 60 + 100 * label
                image = Image.new("RGB", (20 + 10 * (i == 0), 20), (grey, grey, grey))
                image.save(tmp_path / split / name / ("1.png" if i == 1 else f"{i}.JPEG"))
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_folder_is_the_same_resident_and_streamed(folder, workers):
    spec = ImageFolder(folder, 16).spec()
    assert (spec.shape, spec.classes, spec.train_samples, spec.test_samples) == ((3, 16, 16), ("a", "b"), 10, 4)
    resident, _ = ImageFolder(folder, 16, workers=workers, budget_bytes=10**9).read(CPU)
    streamed, _ = ImageFolder(folder, 16, workers=workers, budget_bytes=0).read(CPU)
    assert type(resident) is not type(streamed)
    order = [torch.tensor([9, 0, 4]), torch.tensor([1, 2])]
    for a, b in zip(resident.read(order), streamed.read(order), strict=True):
        assert torch.equal(a, b)
        assert a.shape[1:] == (16, 16, 3)
    part = streamed.take(torch.tensor([9, 0]))
    assert part.labels.tolist() == [1, 0]
    assert part.samples.tolist() == [9, 0]
    assert next(part.read([torch.tensor([0])])).float().mean() == pytest.approx(160, abs=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(folder, workers):
    broken = folder / "train" / "a" / "2.JPEG"
    broken.write_bytes(broken.read_bytes()[:30])
    with pytest.raises(LayerwiseError, match=str(broken)):
        ImageFolder(folder, 16, workers=workers, budget_bytes=10**9).read(CPU)


def test_an_image_folder_trains_and_loads_without_the_folder(folder, train_py, tmp_path):
    import shutil

    import layerwise

    overrides = {"dataset": "imagefolder", "dataset.root": folder, "dataset.size": 8, "batch_size": 4}
    overrides |= {"dataset.limit": "null", "dataset.limit_test": "null", "name": "images"}
    assert train_py(**overrides).code == 0
    shutil.rmtree(folder / "train")
    assert layerwise.load(tmp_path / "out" / "images").spec.classes == ("a", "b")
