"""ImageNet and Imagenette: found, checked, decoded, cropped by counters, and streamed by lasting workers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import RandomResizedCrop, v2

from helpers.commands import ROOT, assert_refused
from helpers.data import CPU
from helpers.photographs import WNIDS, break_images, inputs, photograph, write_imagenette
from layerwise.config.datasets.files import ImagenetteConfig
from layerwise.core import distributed
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import seeded
from layerwise.data.dataset import Dataset, DatasetSpec
from layerwise.data.factory import load
from layerwise.data.fingerprint import first_difference
from layerwise.data.images import decoding, imagenet
from layerwise.data.images.decoding import UnreadableImage, decode
from layerwise.data.images.encoded import NAMED, name_left_out
from layerwise.data.images.imagenet import ImageNet, Imagenette
from layerwise.data.images.resized_crop import ATTEMPTS, LANE_BITS, RATIO, SCALE, ResizedCrop, choose_box
from layerwise.data.images.worker_map import WorkerMap
from layerwise.data.torchvision_sets import CIFAR10


@pytest.fixture
def root(tmp_path) -> Path:
    return write_imagenette(tmp_path)


def imagenette(root: Path, size: int = 16, workers: int = 0, skip_unreadable: bool = False, **options) -> Dataset:
    return load(Imagenette(root, size, workers=workers, skip_unreadable=skip_unreadable), CPU, **options)


# Where the images are


def test_imagenette_is_found_in_its_folder_or_around_it(root):
    inside = Imagenette(root / "imagenette2-160", 16).spec()
    assert inside == Imagenette(root, 16).spec()
    assert (inside.shape, inside.train_samples, inside.test_samples) == ((3, 16, 16), 30, 10)
    assert inside.classes[:3] == ("tench", "English springer", "cassette player")
    assert inside.augmented
    data = imagenette(root, validation=0.2)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 24, "validation": 6, "test": 10}
    assert data.splits["test"].labels.tolist() == list(range(10))


def test_replaced_images_have_another_digest_and_are_named(root):
    before, lines = Imagenette(root, 16).spec(), Imagenette(root, 16).listing()
    assert len(lines.splitlines()) == before.train_samples + before.test_samples
    path = next((root / "imagenette2-160" / "train").glob("*/*"))
    os.utime(path, (10**9, 10**9))
    after = Imagenette(root, 16).spec()
    assert before.digest != after.digest
    assert first_difference(lines, Imagenette(root, 16).listing()).startswith(f"train/{path.parent.name}/{path.name}: ")
    assert not before.agrees_with(after)


def test_the_resolution_is_an_option(root):
    for size in (16, 24):
        data = imagenette(root, size)
        for split, view in (("train", 0), ("test", None)):
            (batch,) = data.batches(split, torch.arange(3), 3, view)
            assert batch.inputs.shape == (3, 3, size, size)
    with pytest.raises(LayerwiseError, match=r"dataset\.size"):
        ImagenetteConfig(name="imagenette").reader(None)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train", "val"], r"n02979186 \(cassette player\).*imagefolder"),
        (["val"], r"other classes.*n02979186.*n99999999"),
        ([], r"holds 11 class folders, imagenette has 10.*n99999999"),
    ],
    ids=["a class is missing", "val has another", "a class too many"],
)
def test_class_folders_that_are_not_those_of_imagenette_are_named(root, splits, message):
    for split in splits:
        wnid = root / "imagenette2-160" / split / "n02979186"
        wnid.rename(wnid.with_name("n99999999"))
    if not splits:
        (root / "imagenette2-160" / "train" / "n99999999").mkdir()
    with pytest.raises(LayerwiseError, match=message):
        Imagenette(root, 16).spec()


def test_an_absent_set_is_described_by_its_official_numbers_and_refused_when_read(tmp_path):
    spec = ImageNet(tmp_path, 224).spec()
    assert (len(spec.classes), spec.train_samples, spec.test_samples) == (1000, 1_281_167, 50_000)
    with pytest.raises(LayerwiseError, match=r"imagenet.*dataset\.root=FOLDER"):
        load(ImageNet(tmp_path, 224), CPU)
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "ILSVRC2012_img_val.tar").write_bytes(b"")
    with pytest.raises(LayerwiseError, match=r"ILSVRC2012_img_val\.tar.*torchvision.*split='train'"):
        load(ImageNet(tmp_path, 224), CPU)


def test_imagenets_class_folders_are_checked(root, monkeypatch):
    folder = root / "imagenette2-160"
    with pytest.raises(LayerwiseError, match=r"n01443537 \(goldfish.*and 987 more.*imagefolder"):
        ImageNet(folder, 16).spec()
    monkeypatch.setattr(ImageNet, "words", lambda self: {})  # timm is not installed
    with pytest.raises(LayerwiseError, match="holds 10 class folders, imagenet has 1000"):
        ImageNet(folder, 16).spec()
    monkeypatch.setattr(ImageNet, "words", lambda self: imagenet.IMAGENETTE)
    folder.rename(root / "imagenet")
    assert ImageNet(root, 16).spec().classes == tuple(WNIDS)
    data = load(ImageNet(root, 16), CPU)
    assert (len(data.splits["train"]), len(data.splits["test"])) == (30, 10)


def test_val_images_outside_of_class_folders_are_refused(root, monkeypatch):
    monkeypatch.setattr(ImageNet, "words", lambda self: imagenet.IMAGENETTE)
    folder = root / "imagenette2-160"
    (folder / "val" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").rename(folder / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(LayerwiseError, match=r"no class folder.*ILSVRC2012_img_val"):
        ImageNet(folder, 16).spec()
    (folder / "val").rename(root / "elsewhere")
    with pytest.raises(LayerwiseError, match=r"there is no folder.*val.*ILSVRC2012_img_val"):
        ImageNet(folder, 16).spec()


def test_imagenette_is_downloaded_where_it_is_absent(root, tmp_path, monkeypatch):
    asked = []

    def download(folder: str, split: str, size: str, download: bool) -> None:
        asked.append(size)
        name = f"imagenette2-{size.removesuffix('px')}"
        assert not (Path(folder) / name).exists()
        (root / "imagenette2-160").rename(Path(folder) / name)

    monkeypatch.setattr(datasets, "Imagenette", download)
    empty = tmp_path / "empty"
    unfinished = empty / "imagenette.download" / "imagenette2-320"
    unfinished.mkdir(parents=True)
    spec = Imagenette(empty, 224).spec()
    assert (spec.train_samples, spec.test_samples) == (9_469, 3_925)
    assert len(load(Imagenette(empty, 224), CPU).splits["train"]) == 30
    assert asked == ["320px"]
    assert [path.name for path in empty.iterdir()] == ["imagenette2-320"]
    load(Imagenette(empty, 224), CPU)
    assert len(asked) == 1

    def refuse(*arguments, **options) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "Imagenette", refuse)
    with pytest.raises(LayerwiseError, match=r"no route to host.*imagenette2-160/train.*dataset\.root"):
        load(Imagenette(tmp_path / "elsewhere", 64), CPU)


def test_specifications_of_older_runs_are_still_read():
    text = CIFAR10.to_json()
    older = text.replace(',\n "resized_crop": false', "")
    assert older != text
    assert DatasetSpec.from_json(older) == CIFAR10


# What becomes of them


def test_held_out_images_are_resized_and_cut_as_torchvision_does(root):
    data = imagenette(root, size=21)
    (pixels,) = data.splits["test"].read([torch.arange(10)])
    textbook = v2.Compose([v2.Resize(24, antialias=True), v2.CenterCrop(21)])  # 24 = 21 · 8/7
    for wnid, image in zip(WNIDS, pixels, strict=True):
        decoded = decode(str(root / "imagenette2-160" / "val" / wnid / f"{wnid}_0.JPEG"))
        assert torch.equal(image.permute(2, 0, 1), textbook(decoded))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_view_is_the_same_in_any_order_batch_and_process(root, workers):
    reference = inputs(imagenette(root), torch.arange(30), 30, view=3)
    order = torch.randperm(30)
    data = imagenette(root, workers=workers)
    assert torch.equal(inputs(data, order, 7, view=3), reference[order])
    assert not torch.equal(inputs(data, order, 7, view=4), reference[order])
    part = data.splits["train"].take(order[:5])
    data.splits["train"] = part
    assert torch.equal(inputs(data, torch.tensor([4, 0]), 2, view=3), reference[order[[4, 0]]])
    other_seed = inputs(imagenette(root, seed=1), torch.arange(30), 30, view=3)
    assert not torch.equal(other_seed, reference)


def test_without_augmentation_and_without_a_view_training_images_are_cut_like_held_out_ones(root):
    order = torch.arange(30)
    plain = inputs(imagenette(root, augment=False), order, 8, view=0)
    assert torch.equal(plain, inputs(imagenette(root, augment=False), order, 8, view=1))
    assert torch.equal(plain, inputs(imagenette(root), order, 8, view=None))
    assert not torch.equal(plain, inputs(imagenette(root), order, 8, view=0))


def test_a_crop_is_torchvisions_of_the_same_box():
    image = torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8)
    crop = ResizedCrop(size=16, seed=0)
    seen = set()
    for draws in crop.draw(0, torch.arange(20)):
        top, left, height, width = choose_box(draws.attempts, 40, 30)
        expected = v2.functional.resized_crop(image, top, left, height, width, [16, 16], antialias=True)
        assert torch.equal(crop(image, draws), expected.flip(2) if draws.mirrored else expected)
        seen.add(draws.mirrored)
    assert seen == {0, 1}


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (100, 400)])
def test_boxes_are_distributed_as_torchvisions(height, width):
    n = 4000
    draws = ResizedCrop(size=16, seed=0).draw(5, torch.arange(n))
    ours = torch.tensor([choose_box(of_image.attempts, height, width) for of_image in draws])
    image = torch.empty(3, height, width, dtype=torch.uint8)
    with seeded(0):
        theirs = torch.tensor([RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(n)])
    for name, a, b in zip(("area", "ratio", "row", "column"), measures(ours), measures(theirs), strict=True):
        at = torch.cat([a, b])
        shares = [torch.searchsorted(values.sort().values, at, right=True) / n for values in (a, b)]
        assert (shares[0] - shares[1]).abs().max() < 0.05, name  # Kolmogorov and Smirnov: p < 0.0001
    assert abs(sum(of_image.mirrored for of_image in draws) / n - 0.5) < 0.03


def measures(boxes: torch.Tensor) -> list[torch.Tensor]:
    """Area, ratio and centre of boxes [N, 4]."""
    top, left, height, width = boxes.double().T
    return [height * width, width / height, top + height / 2, left + width / 2]


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (30, 30, (0, 0, 30, 30)), (1, 1, (0, 0, 1, 1))],
)
def test_where_no_attempt_fits_the_centre_is_taken(height, width, box):
    too_wide = [[(1 << LANE_BITS) - 1, 0, 0, 0]] * ATTEMPTS  # the whole area at ratio 3/4
    assert choose_box(too_wide if (height, width) != (1, 1) else [], height, width) == box


# Files of all kinds


def test_formats_that_torchvision_refuses_are_decoded_by_pillow(tmp_path, monkeypatch):
    rgb = photograph(np.random.default_rng(0))
    kinds = {"cmyk.jpg": rgb.convert("CMYK"), "x.bmp": rgb, "x.tiff": rgb, "grey.png": rgb.convert("L")}
    for name, image in kinds.items():
        image.save(tmp_path / name)
        expected = torch.from_numpy(np.array(Image.open(tmp_path / name).convert("RGB"))).permute(2, 0, 1)
        decoded = decode(str(tmp_path / name))
        assert decoded.dtype == torch.uint8
        assert (decoded.int() - expected.int()).abs().max() <= 2, name
    grey = (np.arange(400).reshape(20, 20) * 150).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    assert torch.equal(decode(str(tmp_path / "deep.png"))[1], torch.from_numpy((grey >> 8).astype(np.uint8)))
    rgb.save(tmp_path / "rgb.png")
    by_torchvision = decode(str(tmp_path / "rgb.png"))
    monkeypatch.delattr(decoding.io, "decode_image")  # as in a torchvision that has left decoding to torchcodec
    assert torch.equal(decode(str(tmp_path / "rgb.png")), by_torchvision)


def test_decoding_does_not_warn(tmp_path):
    photograph(np.random.default_rng(0)).save(tmp_path / "x.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(str(tmp_path / "x.jpg"))


@pytest.mark.parametrize("content", [b"", b"text", "cut"])
def test_what_nothing_decodes_is_unreadable(tmp_path, content):
    path = tmp_path / "x.jpg"
    photograph(np.random.default_rng(0)).save(path)
    path.write_bytes(path.read_bytes()[:200] if content == "cut" else content)
    with pytest.raises(UnreadableImage):
        decode(str(path))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_fatal_and_named(root, workers):
    (broken,) = break_images(root, 1)
    data = imagenette(root, workers=workers)
    with pytest.raises(LayerwiseError, match=rf"{broken} cannot be decoded .*dataset\.unreadable=skip"):
        inputs(data, torch.arange(30), 8, view=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_can_be_skipped(root, workers, capsys):
    intact = imagenette(root)
    whole = dict(
        zip(intact.splits["train"].samples.tolist(), inputs(intact, torch.arange(30), 30, view=2), strict=True)
    )
    broken = break_images(root, 2)
    train = (data := imagenette(root, workers=workers, skip_unreadable=True)).splits["train"]
    assert (len(train), len(train.labels), len(data.splits["test"])) == (28, 28, 10)
    assert train.labels.sort().values.tolist() == [0] + [c for c in range(1, 10) for _ in range(3)]
    assert train.samples.sort().values.tolist() == list(range(2, 30))
    for sample, image in zip(train.samples.tolist(), inputs(data, torch.arange(28), 5, view=2), strict=True):
        assert torch.equal(image, whole[sample])  # the others see the same crops
    said = capsys.readouterr().err
    assert all(str(path) in said for path in broken)
    for wnid in WNIDS[:7]:  # two of the three images of seven classes
        for i in (0, 1):
            (root / "imagenette2-160" / "train" / wnid / f"{wnid}_{i}.JPEG").write_bytes(b"")
    imagenette(root, skip_unreadable=True)
    said = capsys.readouterr().err
    assert said.count("cannot be decoded") == 10
    assert "and 4 more" in said
    break_images(root, 30)
    with pytest.raises(LayerwiseError, match="none of the 3 images of class 'n01440764'"):
        imagenette(root, skip_unreadable=True)


# The workers


@pytest.mark.parametrize(("rank", "lines"), [(0, NAMED + 1), (1, 0)])
def test_only_the_main_process_names_what_is_left_out(monkeypatch, capsys, rank, lines):
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    name_left_out([f"{i}.jpg cannot be decoded." for i in range(NAMED + 5)])
    err = capsys.readouterr().err
    assert len(err.splitlines()) == lines
    assert ("and 5 more unreadable images" in err) == (rank == 0)


def process_id(item: int) -> tuple[int, int]:
    return item, os.getpid()


def handlers(item: int) -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)]


def test_workers_last_for_all_epochs_and_forget_an_abandoned_one():
    run = WorkerMap(process_id, workers=2)
    state = torch.get_rng_state()
    first = list(run(range(10)))
    abandoned = run(range(100, 200))
    assert next(abandoned)[0] == 100
    second = list(run(range(20, 30)))
    assert [item for item, _ in first + second] == [*range(10), *range(20, 30)]
    workers = {process for _, process in first}
    assert {process for _, process in second} == workers
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert torch.equal(torch.get_rng_state(), state)  # epochs leave the global stream alone
    with pytest.raises(AssertionError, match="other items"):
        next(abandoned)


def test_workers_leave_signals_to_the_main_process():
    assert list(WorkerMap(handlers, workers=1)([0])) == [[signal.SIG_IGN] * 3]


def test_a_process_ends_while_its_workers_are_idle_or_busy(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from layerwise.data.images.worker_map import WorkerMap\n"
        "if __name__ == '__main__':\n"
        "    idle, busy = WorkerMap(abs, workers=1), WorkerMap(time.sleep, workers=1)\n"
        "    print(list(idle([-1, -2])))\n"
        "    results = busy([0.1] * 1000)\n"
        "    next(results)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, script], timeout=60, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout) == (0, "[1, 2]\n"), ended.stderr


def test_workers_end_with_a_map_that_only_the_garbage_collector_finds():
    run = WorkerMap(process_id, workers=1)
    ((_, worker),) = run([0])
    run.itself = run
    del run
    gc.collect()
    assert worker not in {process.pid for process in multiprocessing.active_children()}


def test_a_split_gives_the_same_again_after_an_abandoned_epoch(root):
    data = imagenette(root, workers=2)
    expected = inputs(data, torch.arange(30), 4, view=1)
    decoders = data.splits["train"]._decoders
    next(data.batches("train", torch.arange(30), 4, view=0))
    assert torch.equal(inputs(data, torch.arange(30), 4, view=1), expected)
    assert data.splits["train"]._decoders is decoders  # and so the same processes


# As a user sees them


OVERRIDES = {"dataset": "imagenette", "dataset.size": 16, "dataset.workers": 0, "batch_size": 8}
OVERRIDES |= {"dataset.limit": "null", "dataset.limit_test": "null"}


def test_a_run_trains_on_imagenette(root, train_py):
    break_images(root, 1)
    overrides = OVERRIDES | {"dataset.root": root}
    assert_refused(train_py(**overrides), f"{WNIDS[0]}_0.JPEG", "dataset.unreadable=skip")
    outcome = train_py("dataset.unreadable=skip", **overrides)
    assert outcome.code == 0, outcome.err
    assert f"{WNIDS[0]}_0.JPEG" in outcome.err


def test_bad_values_are_refused(root, train_py):
    overrides = OVERRIDES | {"dataset.root": root}
    assert_refused(train_py("dataset.unreadable=maybe", **overrides), "dataset.unreadable", "maybe", "skip")
    assert_refused(train_py(**(overrides | {"dataset.size": 0})), "dataset.size=0")
    assert_refused(train_py(**(overrides | {"dataset.workers": -1})), "dataset.workers=-1")
