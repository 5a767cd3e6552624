"""Records: the same images as in the folder that they were made from, whole or refused, and scripts/prepare_data.py."""

from __future__ import annotations

import pickle
import resource
import shutil
import signal
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import assert_refused, run_script
from helpers.data import CPU
from helpers.photographs import WNIDS, break_images, inputs, photograph, write_imagenette
from helpers.run_folders import results_of
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import alone, load_tree, save_tree
from layerwise.data.dataset import Dataset
from layerwise.data.factory import load
from layerwise.data.images import record_writer
from layerwise.data.images.decoding import decode
from layerwise.data.images.imagefolder import ImageFolder
from layerwise.data.images.imagenet import ImageNet, Imagenette
from layerwise.data.images.records import INDEX, VERSION, Records

KEPT, SMALLER = 64, 16
"""Short sides: no image of `root` is larger than the first, and all are larger than the second."""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Imagenette's ten classes with three training images and a held-out one each, of 20 to 60 pixels, and a PNG."""
    root = write_imagenette(tmp_path_factory.mktemp("imagenette"))
    photograph(np.random.default_rng(1)).save(root / "imagenette2-160" / "train" / WNIDS[0] / "x.png")
    return root


@pytest.fixture
def root(files, tmp_path) -> Path:
    """A copy of `files`, to be changed."""
    shutil.copytree(files, tmp_path / "files")
    return tmp_path / "files"


def prepare(root: Path, output: Path, *words: str, short_side: int = KEPT):
    """Runs the script."""
    options = ["--root", str(root), "--output", str(output), "--short-side", str(short_side), "--workers", "0"]
    return run_script("prepare_data", "imagenette", *options, *words)


@pytest.fixture(scope="module")
def records(files, tmp_path_factory) -> Path:
    """Records of `files`, with no image resized."""
    output = tmp_path_factory.mktemp("records") / "kept"
    outcome = prepare(files, output)
    assert outcome.code == 0, outcome.err
    return output


@pytest.fixture
def damaged(records, tmp_path) -> Path:
    """A copy of `records`, to be damaged."""
    shutil.copytree(records, tmp_path / "damaged")
    return tmp_path / "damaged"


def imagenette(root: Path, size: int = 16, workers: int = 0, skip_unreadable: bool = False, **options) -> Dataset:
    return load(Imagenette(root, size, workers=workers, skip_unreadable=skip_unreadable), CPU, **options)


def small_shards(monkeypatch: pytest.MonkeyPatch, size: int = 3000) -> None:
    """Makes the script write shards of a few images: MB are too large for these."""
    whole = record_writer.RecordWriter.__init__

    def begin(self, *arguments, **options) -> None:
        whole(self, *arguments, **{**options, "shard_bytes": size})

    monkeypatch.setattr(record_writer.RecordWriter, "__init__", begin)


def contents(folder: Path) -> dict[str, bytes | str]:
    """Each file's; of an index what it says, as its bytes are in no certain order."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {INDEX: repr(load_tree(folder / INDEX))} if INDEX in files else files


# The same images


@pytest.mark.parametrize("workers", [0, 2])
def test_records_give_the_batches_of_the_folder_to_the_bit(files, records, workers):
    assert Imagenette(records, 16).spec() == Imagenette(files, 16).spec()
    options = {"validation": 0.2, "seed": 3, "limit_train": 20}
    folder, kept = imagenette(files, **options), imagenette(records, workers=workers, **options)
    for split, view in (("train", 0), ("train", 5), ("train", None), ("validation", None), ("test", None)):
        order = torch.randperm(len(folder.splits[split]))
        pairs = zip(folder.batches(split, order, 7, view), kept.batches(split, order, 7, view), strict=True)
        for a, b in pairs:
            assert torch.equal(a.inputs, b.inputs)
            assert torch.equal(a.targets, b.targets)
        assert torch.equal(folder.splits[split].samples, kept.splits[split].samples)


def test_an_imagefolder_of_records_is_the_same_resident_and_streamed(files, records):
    folder = files / "imagenette2-160"
    specs = ImageFolder(records, 16).spec(), ImageFolder(folder, 16).spec()
    assert specs[0].agrees_with(specs[1])
    assert specs[0].digest == specs[1].digest != ""
    for budget in (0, 10**9):
        pairs = (ImageFolder(root, 16, budget_bytes=budget).read(CPU) for root in (folder, records))
        for of_folder, of_records in zip(*pairs, strict=True):
            order = torch.randperm(len(of_folder))
            assert torch.equal(next(of_folder.read([order])), next(of_records.read([order])))
            assert torch.equal(of_folder.labels, of_records.labels)


def test_many_shards_hold_what_one_does(files, records, tmp_path, monkeypatch):
    small_shards(monkeypatch)
    assert prepare(files, tmp_path / "many").code == 0
    shards = sorted((tmp_path / "many").glob("train-*.bin"))
    assert len(shards) > 3
    assert all(path.stat().st_size <= 3000 for path in shards)
    assert b"".join(path.read_bytes() for path in shards) == (records / "train-00000.bin").read_bytes()
    one, many = (Records(folder).images("train").encoded for folder in (records, tmp_path / "many"))
    backwards = many.take(torch.arange(30, -1, -1))
    for i in range(31):
        assert torch.equal(one[i], many[i])
        assert torch.equal(one[i], backwards[30 - i])
    assert len(many.take(torch.tensor([4, 4]))) == 2


def test_images_are_read_where_they_are_mapped_also_by_a_process_that_was_sent_them(records):
    encoded = Records(records).images("val").encoded
    shard = encoded.shards[0]
    first = encoded[1]
    assert first.data_ptr() == shard.bytes.data_ptr() + int(encoded.starts[1])  # no copy
    sent = pickle.dumps(encoded)
    assert len(sent) < 3000  # of the images themselves nothing is sent
    assert torch.equal(pickle.loads(sent)[1], first)


def test_large_images_become_jpegs_of_the_short_side(files, tmp_path):
    outcome = prepare(files, tmp_path / "small", "--quality", "90", short_side=SMALLER)
    assert "31 images" in outcome.out
    assert "31 resized, 0 kept" in outcome.out
    encoded = Records(tmp_path / "small").images("train").encoded
    paths = sorted((files / "imagenette2-160" / "train").rglob("*.*"))
    for i, path in enumerate(paths):
        with Image.open(path) as original, Image.open(BytesIO(encoded[i].numpy().tobytes())) as image:
            assert image.format == "JPEG"
            assert min(image.size) == SMALLER
            shown = np.asarray(original.convert("RGB").resize(image.size, Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(decode(encoded[i]).permute(1, 2, 0).numpy() - shown).mean() < 10  # of 255


def test_a_run_takes_records_for_its_files_unless_images_were_resized(root, records, tmp_path, train_py):
    overrides = OVERRIDES | {"dataset.size": 12, "dataset.root": root}
    assert train_py(**overrides).code == 0
    prepare(root, tmp_path / "small", short_side=SMALLER)
    shutil.rmtree(root / "imagenette2-160")
    shutil.copytree(records, root / "imagenette-records")
    assert "finished" in train_py(**overrides).err
    shutil.rmtree(root / "imagenette-records")
    (tmp_path / "small").rename(root / "imagenette-records")
    outcome = train_py(**overrides)
    assert outcome.code == 0  # it is finished
    assert "images of short side 16, JPEG quality 95 now" in outcome.err
    next((tmp_path / "out").glob("*/checkpoints/stage_1.safetensors")).unlink()
    assert_refused(train_py(**overrides), "not those", "images of short side 16, JPEG quality 95 now", "fresh=true")


def test_a_resolution_that_images_were_made_too_small_for_is_refused(files, records, tmp_path):
    prepare(files, tmp_path / "small", short_side=SMALLER)
    assert Imagenette(tmp_path / "small", 14).spec().shape == (3, 14, 14)  # 14 · 8/7 = 16
    with pytest.raises(LayerwiseError, match=r"dataset\.size=20: .*22 pixels.* 16 .*size=14 .*--short-side 22"):
        Imagenette(tmp_path / "small", 20).spec()
    assert ImageFolder(tmp_path / "small", 16).spec().shape == (3, 16, 16)
    with pytest.raises(LayerwiseError, match=r"dataset\.size=17: .*size=16 "):
        ImageFolder(tmp_path / "small", 17).spec()
    Imagenette(records, 500).spec()  # as large as they ever were


# Where they are found


def test_records_are_found_in_the_root_and_below_it_behind_the_files(files, records, root):
    shutil.copytree(records, root / "imagenette-records")
    assert Imagenette(records, 16).find() == records
    assert Imagenette(root, 16).find() == root / "imagenette2-160"
    shutil.rmtree(root / "imagenette2-160")
    assert Imagenette(root, 16).find() == root / "imagenette-records"
    assert len(imagenette(root).splits["train"]) == 31


def test_records_of_other_classes_are_refused(records):
    with pytest.raises(LayerwiseError, match=r"987 more.*dataset=imagefolder"):
        ImageNet(records, 16).spec()


# Damage


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def as_version(path: Path, version: int) -> None:
    save_tree(path, load_tree(path) | {"version": version})


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("train-00000.bin", cut_off, ["train-00000.bin", "its index says", "anew"]),
        ("val-00000.bin", Path.unlink, ["val-00000.bin", "No such file", "anew"]),
        (INDEX, cut_off, [INDEX, "truncated", "anew"]),
        (INDEX, lambda path: flip(path, -1), [INDEX, "altered", "anew"]),
        (INDEX, lambda path: path.write_bytes(b""), [INDEX, "empty", "anew"]),
        (INDEX, lambda path: save_tree(path, {"format": "other"}), [INDEX, "no index"]),
        (INDEX, lambda path: as_version(path, 99), ["version 99", f"version {VERSION}", "layerwise prepare_data"]),
    ],
    ids=["shard cut off", "shard missing", "index cut off", "index altered", "index empty", "foreign", "version"],
)
def test_what_is_not_whole_is_refused_at_once(damaged, train_py, name, damage: Callable[[Path], None], words):
    damage(damaged / name)
    assert_refused(train_py(**OVERRIDES, **{"dataset.root": damaged}), *words)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_altered_image_is_fatal_and_named_or_left_out(damaged, workers, capsys):
    encoded = Records(damaged).images("train").encoded
    flip(damaged / "train-00000.bin", int(encoded.starts[5]) + int(encoded.lengths[5]) // 2)
    data = imagenette(damaged, workers=workers)
    place = f"image at the bytes {encoded.starts[5]} to"
    with pytest.raises(LayerwiseError, match=rf"train-00000\.bin, {place}.*checksum.*anew.*dataset\.unreadable=skip"):
        inputs(data, torch.arange(31), 8, view=0)
    train = imagenette(damaged, workers=workers, skip_unreadable=True).splits["train"]
    assert train.samples.sort().values.tolist() == [i for i in range(31) if i != 5]
    assert place in capsys.readouterr().err


# The script


def test_the_script_names_sizes_and_the_command(files, tmp_path):
    output = tmp_path / "a folder"
    outcome = prepare(files, output)
    assert outcome.code == 0, outcome.err
    size = sum(path.stat().st_size for path in (files / "imagenette2-160" / "train").rglob("*.*")) / 1e6
    assert f"train: 31 images, {size:,.1f} MB → {size:,.1f} MB in 1 file(s); 0 resized, 31 kept" in outcome.out
    assert f"train dataset=imagenette dataset.root='{output}'" in outcome.out
    assert sorted(contents(output)) == [INDEX, "train-00000.bin", "val-00000.bin"]
    assert not list(tmp_path.glob("*.partial"))


def test_the_script_overwrites_nothing(files, records, damaged, tmp_path):
    before = contents(records)
    outcome = prepare(files, records)
    assert outcome.code == 0
    assert "already" in outcome.out
    assert_refused(prepare(files, records, short_side=SMALLER), str(records), "another size")
    assert contents(records) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    assert_refused(prepare(files, other), str(other), "something else")
    assert list(contents(other)) == ["thesis.tex"]
    cut_off(damaged / "val-00000.bin")
    assert_refused(prepare(files, damaged), str(damaged), "damaged records")
    partial = tmp_path / "new.partial"
    other.rename(partial)
    assert_refused(prepare(files, tmp_path / "new"), str(partial), "something else")


def test_what_fails_at_the_very_end_is_only_renamed_the_next_time(files, records, tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(record_writer.Path, "rename", refuse)
        assert_refused(prepare(files, tmp_path / "x"), str(tmp_path / "x"), "Permission denied", "same command")
    monkeypatch.setattr(record_writer, "decode", None)  # no image is prepared again
    assert prepare(files, tmp_path / "x").code == 0
    assert contents(tmp_path / "x") == contents(records)


def test_bad_options_are_refused(files, records, tmp_path):
    for word, message in (
        ("--short-side=0", "--short-side: 0"),
        ("--quality=96", "95"),
        ("--shard-mb=0", "--shard-mb: 0"),
    ):
        assert_refused(prepare(files, tmp_path / "x", word), message)
    assert_refused(prepare(tmp_path / "nowhere" / "x", tmp_path / "x", "--workers=-1"), "--workers: -1")
    assert_refused(prepare(records, tmp_path / "x"), str(records), "image files")
    assert not (tmp_path / "x").exists()


def test_unreadable_files_are_fatal_and_named_or_left_out(root, tmp_path):
    broken = break_images(root, 2)
    outcome = prepare(root, tmp_path / "x")
    assert_refused(outcome, str(broken[0]), "--unreadable skip")
    assert prepare(root, tmp_path / "x", "--unreadable", "skip").code == 0
    folder, kept = (imagenette(place, skip_unreadable=True) for place in (root, tmp_path / "x"))
    assert torch.equal(folder.splits["train"].samples, kept.splits["train"].samples)
    order = torch.arange(29)
    assert torch.equal(inputs(folder, order, 9, view=1), inputs(kept, order, 9, view=1))  # the same crops
    break_images(root, 31)
    (root / "imagenette2-160" / "train" / WNIDS[0] / "x.png").write_bytes(b"")
    assert_refused(prepare(root, tmp_path / "y", "--unreadable", "skip"), "none of the 4 images of class 'n01440764'")


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_was_stopped_goes_on_at_the_next_shard(files, tmp_path, monkeypatch, split):
    small_shards(monkeypatch)
    prepare(files, tmp_path / "whole")
    shards, prepared = len(list((tmp_path / "whole").glob("train-*.bin"))), []
    finish = record_writer._ShardWriter.finish

    def stop(self):
        if self.path.name == f"{split}-00001.bin":
            signal.raise_signal(signal.SIGINT)
        return finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(record_writer._ShardWriter, "finish", stop)
        outcome = prepare(files, tmp_path / "x")
    assert outcome.code == 130
    assert_refused(outcome, "SIGINT", "same command")
    assert not (tmp_path / "x").exists()
    assert len(list((tmp_path / "x.partial").glob(f"{split}-*.bin"))) == 2  # what had only been begun is gone
    assert_refused(prepare(files, tmp_path / "x", short_side=SMALLER), str(tmp_path / "x.partial"), "--short-side")
    decoder = record_writer.decode
    monkeypatch.setattr(record_writer, "decode", lambda *image: prepared.append(image) or decoder(*image))
    assert prepare(files, tmp_path / "x").code == 0
    assert shards > 2
    assert len(prepared) < (41 if split == "train" else 10)  # not those of the shards that were finished
    assert contents(tmp_path / "x") == contents(tmp_path / "whole")


def test_a_full_disk_is_one_message_and_leaves_the_finished_shards(files, tmp_path, monkeypatch):
    """A bound on the size of files stands for the disk: writes beyond it fail."""
    small_shards(monkeypatch, 12_000)
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, previous[1]))
    try:
        outcome = prepare(files, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, handler)
    assert_refused(outcome, "train-00000.bin", "no space left", "goes on")
    assert list(contents(tmp_path / "x.partial")) == ["plan.safetensors"]
    assert prepare(files, tmp_path / "x").code == 0


# As a user sees them


OVERRIDES = {"dataset": "imagenette", "dataset.size": 16, "dataset.workers": 0, "batch_size": 8, "device": "cpu"}
OVERRIDES |= {"dataset.limit": "null", "dataset.limit_test": "null"}


def test_a_run_on_records_equals_one_on_the_folder(files, records, train_py, tmp_path):
    rows = []
    for name, place in (("folder", files), ("records", records)):
        outcome = train_py(**OVERRIDES, name=name, **{"dataset.root": place})
        assert outcome.code == 0, outcome.err
        rows.append([(row["train"], row["test"]) for row in results_of(tmp_path / "out" / name)["blocks"]])
    assert rows[0] == rows[1]


@pytest.mark.parametrize("change", ["split", "length", "label", "shards", "missing"])
def test_an_index_of_other_files_or_places_is_refused(records, tmp_path, change):
    shutil.copytree(records, tmp_path / "records")
    index = load_tree(tmp_path / "records" / INDEX)
    train = index["splits"]["train"]
    if change == "split":
        index["splits"]["../train"] = train
    elif change == "length":
        train["lengths"][:2] += torch.tensor([-(2**20), 2**20])  # the sum is that of the file
    elif change == "label":
        train["labels"][0] = 10
    elif change == "shards":
        train["images_per_shard"][0] -= 1
    else:
        del train["crc32"]
    save_tree(tmp_path / "records" / INDEX, index)
    with pytest.raises(LayerwiseError, match="names files or places"):
        Records(tmp_path / "records")


def test_a_second_command_on_the_same_folder_is_refused(files, tmp_path):
    output = tmp_path / "records"
    with alone(tmp_path / "records.partial", ""):
        assert_refused(prepare(files, output), "records.partial: another process writes there")
    assert prepare(files, output).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["records"]
