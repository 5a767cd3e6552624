"""Image files as users have them: damaged, of any format, in folders of any shape."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.commands import ROOT, assert_refused
from helpers.data import CPU
from helpers.run_folders import numbers, results_of
from layerwise.analysis.predicting import image_files
from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.data.factory import load
from layerwise.data.images.decoding import UnreadableImage, decode
from layerwise.data.images.folders import ClassFolders
from layerwise.data.images.imagefolder import ImageFolder
from layerwise.data.images.listing import Walk
from layerwise.data.images.record_writer import Preparation, RecordWriter
from layerwise.runs.run_files import read_spec

# Bytes


def picture(shade: int = 90, size: tuple[int, int] = (16, 12)) -> Image.Image:
    return Image.new("RGB", size, (shade, 2 * shade % 256, 255 - shade))


def content(image: Image.Image, file_format: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def tensor(encoded: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(encoded, dtype=np.uint8).copy())


FLIPS = """
import sys
import numpy as np, torch
from layerwise.data.images.decoding import UnreadableImage, decode
for path in sys.argv[1:]:
    print(path, flush=True)  # of what ends the process
    whole = np.fromfile(path, dtype=np.uint8)
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(100):
        damaged = whole.copy()
        damaged[rng.integers(8, len(whole))] ^= 1 << rng.integers(8)
        try:
            decode(torch.from_numpy(damaged))
            outcomes.append("read")
        except UnreadableImage as error:
            assert "\\n" not in str(error) and " at 0x" not in str(error), error
            outcomes.append("refused")
    print(outcomes.count("read"), outcomes.count("refused"))
"""


def test_a_hundred_random_flips_of_each_format_do_not_end_the_process(tmp_path):
    formats = ["PNG", "GIF", "WEBP", "TIFF", "JPEG"]
    noise = np.random.default_rng(1).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    for file_format in formats:
        (tmp_path / file_format).write_bytes(content(Image.fromarray(noise), file_format))
    done = subprocess.run(
        [sys.executable, "-c", FLIPS, *formats],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    counts = dict(zip(lines[::2], [[int(word) for word in line.split()] for line in lines[1::2]], strict=True))
    assert {file_format: sum(found) for file_format, found in counts.items()} == dict.fromkeys(formats, 100)
    assert counts["PNG"][1] > 90  # each chunk has a checksum


def test_pixels_of_png_files_are_those_of_pillow():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        rng = np.random.default_rng(0)
        image = Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA").convert(mode)
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        assert torch.equal(decode(tensor(content(image, "PNG"))), expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((4, 5), 220, np.int32), 220),
        (np.full((4, 5), 0.9, np.float32), 230),
        (np.full((4, 5), 220 * 256 + 17, np.uint16), 220),
        (np.full((4, 5), 220, np.uint8), 220),
    ],
)
def test_tiff_files_of_any_depth_keep_their_grey(values, expected):
    pixels = decode(tensor(content(Image.fromarray(values), "TIFF")))
    assert pixels.shape == (3, 4, 5)
    assert pixels.unique().tolist() == [expected]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 5), 70_000, np.int32), "32-bit integers from 70000 to 70000 are not in 0 to 255"),
        (np.full((4, 5), -1, np.int32), "32-bit integers from -1"),
        (np.full((4, 5), 90.0, np.float32), r"32-bit floats from 90 to 90 are not in \[0, 1\]"),
        (np.full((4, 5), np.nan, np.float32), "32-bit floats from nan"),
        (np.full((4, 5), 220, np.uint16), "16-bit values up to 220 of 65535 would all be black"),
        (np.full((4, 5), 1023, np.uint16), "16-bit values up to 1023 of 65535 would leave 4 grey levels"),
    ],
)
def test_values_without_a_known_range_are_refused_with_the_reason(values, words):
    with pytest.raises(UnreadableImage, match=words):
        decode(tensor(content(Image.fromarray(values), "TIFF")))


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"no image", "it is no image, or of an unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no image"),  # Pillow would start Ghostscript
    ],
)
def test_what_is_no_image_is_called_what_it_is(encoded, words):
    with pytest.raises(UnreadableImage, match=words) as caught:
        decode(tensor(encoded))
    assert "0x" not in str(caught.value)


def test_a_pipe_named_like_an_image_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImage, match="no regular file"):
        decode(str(tmp_path / "a.jpg"))


def test_a_damaged_colour_profile_is_passed_over_in_silence(capfd):
    whole = content(picture(), "PNG")
    body = b"iCCPbroken\0\0" + b"no zlib"
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    assert decode(tensor(whole[:33] + chunk + whole[33:])).shape == (3, 12, 16)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_of_a_photograph_is_applied_where_it_is_asked_for(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    encoded = tensor(content(picture(), file_format, exif=exif))
    assert decode(encoded).shape == (3, 12, 16)
    assert decode(encoded, exif=True).shape == (3, 16, 12)
    tiff = tensor(content(picture(), "TIFF", exif=exif))
    assert decode(tiff).shape == decode(tiff, exif=True).shape == (3, 16, 12)  # not only in EXIF


# Folders


def write(path: Path, shade: int = 90, file_format: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(shade).save(path, file_format)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classes, four training images and two held-out images each."""
    for split, n in (("train", 4), ("val", 2)):
        for i, name in enumerate(("cat", "dog")):
            for j in range(n):
                write(tmp_path / "images" / split / name / f"{j}.png", 50 + 100 * i + j)
    return tmp_path / "images"


def counts(root: Path) -> tuple[int, int]:
    source = ClassFolders(root, 0.25)
    return source.count("train"), source.count("val")


def test_hidden_and_system_entries_are_no_classes_and_no_images(root, capfd):
    for hidden in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "@Recycle", "#snapshot", "__pycache__"):
        write(root / "train" / hidden / "x.png")
        write(root / "train" / "cat" / hidden / "x.png")
        write(root / "val" / hidden / "x.png")
    (root / "train" / "cat" / "._0.png").write_bytes(b"\0\5\26\7")
    assert ClassFolders(root).classes == ["cat", "dog"]
    assert counts(root) == (8, 4)
    assert len(image_files(root)) == 12
    assert "left out" not in capfd.readouterr().err


def test_a_link_to_a_folder_that_is_read_already_is_not_followed(root, capfd):
    (root / "train" / "cat" / "again").symlink_to(root / "train" / "cat")
    (root / "train" / "cat" / "other").symlink_to(root / "train" / "dog")
    (root / "train" / "dog" / "up").symlink_to(root)
    assert counts(root) == (8, 4)
    read = image_files(root)
    assert len(read) == 12
    assert len({path.resolve() for path in read}) == 12
    assert "links to folders that are read already (3)" in capfd.readouterr().err


def test_a_link_into_the_other_part_is_not_followed(root, capfd):
    (root / "train" / "cat" / "more").symlink_to(root / "val" / "cat")
    (root / "val" / "dog" / "more").symlink_to(root / "train" / "dog")
    assert counts(root) == (8, 4)
    ClassFolders(root).images("train")
    assert "links to folders that are read already (1)" in capfd.readouterr().err
    shutil.rmtree(root / "val")
    (root / "val").symlink_to(root / "train")
    with pytest.raises(LayerwiseError, match=r"val/cat holds no images .*links to folders that are read already"):
        ClassFolders(root).count("val")


@pytest.mark.parametrize("names", [("Train", "Val"), ("training", "testing")])
def test_folders_of_parts_are_not_taken_for_classes(root, names):
    for old, new in zip(("train", "val"), names, strict=True):
        (root / old).rename(root / new)
    with pytest.raises(LayerwiseError, match=rf"holds {', '.join(sorted(names))}, which would be taken for classes"):
        ClassFolders(root, 0.2)


def test_linked_folders_are_followed_by_training_and_by_prediction(root, tmp_path):
    (root / "train" / "dog").rename(tmp_path / "elsewhere")
    (root / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "more" / "x.png")
    (root / "train" / "cat" / "more").symlink_to(tmp_path / "more")
    assert counts(root) == (9, 4)
    assert len(image_files(root)) == 13


def test_a_class_that_is_a_link_to_another_class_is_refused(root):
    (root / "train" / "eel").symlink_to(root / "train" / "cat")
    (root / "val" / "eel").symlink_to(root / "val" / "cat")
    with pytest.raises(LayerwiseError, match=r"eel holds no images .*links to folders that are read already \(1\)"):
        ClassFolders(root).images("train")


def test_what_is_left_out_is_counted_and_said(root, capfd):
    for name in ("a.txt", "b.txt", "c.mp4", "README"):
        (root / "train" / "cat" / name).write_text("")
    os.mkfifo(root / "train" / "dog" / "pipe.jpg")
    (root / "train" / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    write(root / "train" / "loose.png")
    files = ClassFolders(root).images("train")
    assert len(files.labels) == 8
    err = capfd.readouterr().err
    for words in (
        "files that are no images (2 .txt, ",
        "1 .mp4",
        "1 without ending",
        "devices (2)",
        "class folder (1)",
    ):
        assert words in err, err


@pytest.mark.parametrize("ending", [".gif", ".jfif", ".avif", ".JPE", ".webp", ".tif"])
def test_whatever_pillow_reads_is_an_image(root, ending):
    kinds = {".jfif": "JPEG", ".JPE": "JPEG"}
    try:
        path = write(root / "train" / "cat" / f"extra{ending}", file_format=kinds.get(ending))
    except (KeyError, ValueError):
        pytest.skip(f"this Pillow writes no {ending}")
    assert counts(root) == (9, 4)
    assert decode(str(path)).shape == (3, 12, 16)


def test_without_val_a_part_of_the_images_is_tested_on(root, capfd):
    for split in ("train", "val"):
        if split == "val":
            (root / "val").rename(root.parent / "away")
    spec = ImageFolder(root, 8, test=0.25).spec()
    assert (spec.train_samples, spec.test_samples) == (6, 2)
    data = load(ImageFolder(root, 8, test=0.25), CPU)
    assert data.labels["test"].tolist() == [0, 1]  # stratified
    assert "always set apart for testing (dataset.test=0.25)" in capfd.readouterr().err
    bare = root / "train"
    assert ImageFolder(bare, 8, test=0.25).spec().agrees_with(spec)
    assert torch.equal(load(ImageFolder(bare, 8, test=0.25), CPU).splits["test"].values, data.splits["test"].values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "val").rename(root / "valid"), r"holds valid and no val.*Rename"),
        (lambda root: flatten(root / "val"), r"val: holds 4 images and no class folders.*dataset\.test"),
        (lambda root: (flatten(root / "train"), flatten(root / "val")), r"train: holds 8 images that lie in no class"),
    ],
)
def test_folders_of_another_shape_are_refused_with_what_to_do(root, change, words):
    change(root)
    with pytest.raises(LayerwiseError, match=words):
        ImageFolder(root, 8).spec()


def test_images_directly_in_the_root_are_refused_with_what_to_do(tmp_path):
    write(tmp_path / "flat" / "a.png")
    with pytest.raises(LayerwiseError, match=r"flat: holds 1 images that lie in no class folder, such as a\.png"):
        ImageFolder(tmp_path / "flat", 8).spec()


def flatten(folder: Path) -> None:
    for path in list(folder.rglob("*.png")):
        path.rename(folder / f"{path.parent.name}_{path.name}")
    for path in folder.iterdir():
        if path.is_dir():
            path.rmdir()


def test_a_class_of_which_nothing_can_be_read_is_not_left_out_in_silence(root, tmp_path):
    for path in (root / "train" / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(LayerwiseError, match=r"0\.png cannot be decoded \(it is empty\)"):
        load(ImageFolder(root, 8), CPU)
    with pytest.raises(LayerwiseError, match="none of the 4 images of class 'dog' can be decoded"):
        load(ImageFolder(root, 8, skip_unreadable=True), CPU)
    writer = RecordWriter(
        ClassFolders(root), tmp_path / "records", Preparation(8, 90), shard_bytes=10**6, workers=0, skip_unreadable=True
    )
    with pytest.raises(LayerwiseError, match="none of the 4 images of class 'dog' can be decoded"):
        writer.write(lambda n: None)


def test_records_remember_what_was_done_with_orientations(root, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(10, (40, 20)).save(root / "train" / "cat" / "0.png", exif=exif)
    for applied in (False, True):
        records = tmp_path / f"records{applied}"
        RecordWriter(
            ClassFolders(root), records, Preparation(12, 90, exif=applied), shard_bytes=10**6, workers=0
        ).write(lambda n: None)
        spec = ImageFolder(records, 8, exif=applied).spec()
        assert (spec.exif, DatasetSpec.from_json(spec.to_json())) == (applied, spec)
        with pytest.raises(LayerwiseError, match=r"dataset\.exif=.*resized with.*prepare them anew with"):
            ImageFolder(records, 8, exif=not applied).spec()


def test_a_walk_finds_the_files_of_a_folder_given_twice_once(root):
    walk = Walk([root / "train", root / "train" / ".." / "train"])
    assert len(walk.images_below(root / "train")) == 8
    assert walk.images_below(root / "train" / ".." / "train") == []


def test_a_run_whose_images_were_replaced_under_the_same_names_is_refused(root, tmp_path, train_py):
    options = {"dataset": "imagefolder", "dataset.root": root, "dataset.size": 8, "batch_size": 4, "name": "mine"}
    options |= dict.fromkeys(("dataset.limit", "dataset.limit_test"))
    assert train_py(**options).code == 0
    folder = tmp_path / "out" / "mine"
    before = read_spec(folder / "dataset.json")
    assert before.title == "images"
    last = sorted((folder / "checkpoints").iterdir())[-1]
    last.unlink()
    assert train_py(**options).code == 0  # goes on
    path = root / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes())
    os.utime(path, (10**9, 10**9))
    results = numbers(results_of(folder))
    outcome = train_py(**options)
    assert outcome.code == 0
    assert "warning: dataset=imagefolder: the data are not those that" in outcome.err
    assert numbers(results_of(folder)) == results
    last.unlink()
    size = path.stat().st_size
    assert_refused(
        train_py(**options),
        *("the data are not those that", before.digest, f"first difference: train/cat/0.png: {size} bytes of 20"),
        f"{size} bytes of 2001-09-09 01:46:40 now",
    )
    path.rename(path.with_name("00.png"))
    assert_refused(train_py(**options), "first difference: train/cat/00.png: missing there")
    assert train_py(**options, fresh="true").code == 0
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)  # keeps the times
    assert ImageFolder(copy, 8).spec().digest == ImageFolder(root, 8).spec().digest != before.digest


def test_the_report_calls_a_folder_and_a_table_by_their_names(root, tmp_path, train_py):
    options = {"dataset": "imagefolder", "dataset.root": root, "dataset.size": 8, "batch_size": 4, "report": "true"}
    options |= dict.fromkeys(("dataset.limit", "dataset.limit_test"))
    outcome = train_py(name="mine", epochs=1, J=1, **{"model.downsample": "[]"}, **options)
    assert outcome.code == 0, outcome.err
    assert "on images, greedy" in (tmp_path / "out" / "mine" / "report.html").read_text()
    assert results_of(tmp_path / "out" / "mine")["dataset"] == "images"


def test_damaged_metadata_do_not_lose_the_pixels():
    damaged = tensor(content(picture(), "PNG", exif=b"Exif\0\0no orientation"))
    assert torch.equal(decode(damaged, exif=True), decode(damaged))


def write_records(root: Path, output: Path) -> int:
    """Returns how many images were written or found."""
    writer = RecordWriter(ClassFolders(root, 0.25), output, Preparation(8, 90), shard_bytes=10**6, workers=0)
    return len(writer.write(lambda n: None).classes)


def test_records_of_images_that_changed_since_are_not_taken_for_theirs(root, tmp_path):
    assert write_records(root, tmp_path / "records") == write_records(root, tmp_path / "records") == 2
    picture(200, (30, 30)).save(next((root / "train" / "cat").iterdir()))
    with pytest.raises(LayerwiseError, match=r"records of these images before some of them changed.*Remove it"):
        write_records(root, tmp_path / "records")


def test_records_are_not_written_where_they_would_be_a_class(root):
    shutil.rmtree(root / "val")
    for images, output in ((root, root / "train" / "records"), (root / "train", root / "train" / "records")):
        with pytest.raises(LayerwiseError, match=r"records: lies in .*train, where each folder is taken for a class"):
            write_records(images, output)
    assert not (root / "train" / "records").exists()


def test_a_fraction_to_test_on_is_warned_about_where_there_are_test_images(root, capsys):
    ImageFolder(root, 8, test=0.5).spec()
    assert "has test images of its own, so dataset.test=0.5 has no effect" in capsys.readouterr().err
    ImageFolder(root, 8).spec()
    assert "no effect" not in capsys.readouterr().err
