"""predict.py: what a trained network says of image files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

import layerwise
from helpers.commands import Outcome, run_script
from helpers.run_folders import results_of
from layerwise.analysis.predicting import read_image
from layerwise.commands.predict import json_of
from layerwise.core.randomness import key
from layerwise.data import split as data_split
from layerwise.data import toy
from layerwise.data.dataset import DatasetSpec
from layerwise.data.images import imagenet
from layerwise.data.images.imagefolder import ImageFolder


def predict_py(*words: object) -> Outcome:
    return run_script("../predict", *map(str, words))


@pytest.fixture
def folder(train_py, tmp_path) -> Path:
    """A run of two blocks."""
    assert train_py(name="run", precision="fp32", epochs=4).code == 0
    return tmp_path / "out" / "run"


@pytest.fixture
def images(tmp_path) -> Path:
    """The digits' test images as files, in folders named after their classes."""
    _, (pixels, labels) = toy.read_digits()
    for i, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        path = tmp_path / "images" / str(label) / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0].numpy()).save(path)
    return tmp_path / "images"


def test_files_are_classified_as_well_as_the_test_images(train_py, images, tmp_path):
    assert train_py(name="run", precision="fp32", **{"dataset.limit_test": None}).code == 0
    folder = tmp_path / "out" / "run"
    outcome = predict_py(f"run={folder}", f"image={images}", "format=json")
    assert outcome.code == 0, outcome.err
    entries = json.loads(outcome.out)
    truth = [Path(entry["image"]).parent.name for entry in entries]
    assert len(entries) == 360

    def accuracy(guesses: list[str]) -> float:
        return 100 * sum(a == b for a, b in zip(guesses, truth, strict=True)) / len(truth)

    rows, final = results_of(folder)["blocks"], results_of(folder)["final"]
    assert accuracy([entry["class"] for entry in entries]) == pytest.approx(final["test_top1"])
    assert accuracy([entry["ensemble"]["class"] for entry in entries]) == pytest.approx(final["ensemble_top1"])
    for i, row in enumerate(rows):
        assert accuracy([entry["depths"][i]["class"] for entry in entries]) == pytest.approx(row["test"]["top1"])
    network = layerwise.load(folder)
    pixels = read_image(network.spec, Path(entries[0]["image"]))
    with torch.no_grad():
        shares = network(network.normalise(pixels[None])).softmax(dim=1)
    assert entries[0]["confidence"] == pytest.approx(float(shares.max()))


def test_the_table_shows_each_depth_and_the_ensemble(folder, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = Path("[bold]odd.png")
    Image.new("RGB", (20, 30), (0, 90, 0)).save(odd)
    files = sorted(Path("images", "7").glob("*.png"))[:2]
    outcome = predict_py(f"run={folder}", files[0], f"image=[{files[1]},{odd}]", f"image={files[1]}")
    assert outcome.code == 0, outcome.err
    for heading in ("class", "confidence", "depth 1", "depth 2", "ensemble"):
        assert heading in outcome.out
    assert outcome.out.count("%") == 4 * 4
    assert "[bold]odd.png" in outcome.out


def test_one_classifier_has_no_columns_of_depths(train_py, images, tmp_path):
    assert train_py(name="joint", plan="joint", epochs=1).code == 0
    outcome = predict_py(f"run={tmp_path / 'out' / 'joint'}", next(images.rglob("*.png")))
    assert outcome.code == 0
    assert "ensemble" not in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image=x.png"], "the following arguments are required: IMAGE"),
        (["run=RUN"], "the following arguments are required: IMAGE"),
        (["run=RUN", "imgae=x.png"], "unknown key 'imgae'. Did you mean 'image'?"),
        (["RUN", "absent.png"], "absent.png: no such file or folder."),
        (["RUN", "absent.png", "--fromat", "json"], "--fromat json. Did you mean '--format'?"),
        (["run=RUN", "image=EMPTY"], "the folder holds no images"),
        (["run=RUN", "image=TEXT"], "cannot be decoded"),
        (["run=RUN", "image=GOOD", "device=tpu"], "device=tpu: unknown device"),
        (["run=RUN", "image=GOOD", "format=jsn"], "--format: invalid choice: 'jsn' (choose from"),
        (["run=EMPTY", "image=GOOD"], "EMPTY"),
    ],
)
def test_bad_input_is_one_message(tmp_path, request, words, message):
    places = {"EMPTY": tmp_path / "EMPTY", "TEXT": tmp_path / "text.png", "GOOD": tmp_path / "good.png"}
    places["EMPTY"].mkdir()
    places["TEXT"].write_text("no image")
    Image.new("L", (8, 8)).save(places["GOOD"])
    if "TEXT" in words[-1] or "tpu" in words[-1] or "EMPTY" in words[-1]:
        places["RUN"] = request.getfixturevalue("folder")
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    outcome = predict_py(*words)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err


def test_a_run_on_a_table_is_refused_with_the_way_to_predict_rows(train_py, tmp_path, images):
    (tmp_path / "t.csv").write_text("a,b,c\n" + "".join(f"{i},{-i},{i % 2}\n" for i in range(40)))
    table = {"dataset": "table", "dataset.path": tmp_path / "t.csv", "model": "mlp", "k": 1, "batch_size": 16}
    table |= dict.fromkeys(("dataset.limit", "dataset.limit_test", "model.head_width", "model.downsample"))
    assert train_py(name="table", **table).code == 0
    outcome = predict_py(f"run={tmp_path / 'out' / 'table'}", f"image={images}")
    assert outcome.code == 2
    assert "vectors of 2 features" in outcome.err


def test_rows_of_a_table_are_predicted_as_csv(train_py, tmp_path):
    rows = [f"{i},{'' if i % 9 == 0 else i % 7},{'xyz'[i % 3]},{['no', '01'][i % 2]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("a,b,c,kind\n" + "\n".join(rows) + "\n")
    table = {"dataset": "table", "dataset.path": tmp_path / "t.csv", "model": "mlp", "k": 1, "batch_size": 16}
    table |= dict.fromkeys(("dataset.limit", "dataset.limit_test", "model.head_width", "model.downsample"))
    assert train_py(name="table", **table, **{"dataset.test": 0.5}).code == 0
    folder = tmp_path / "out" / "table"
    outcome = predict_py(folder, tmp_path / "t.csv")
    assert outcome.code == 0, outcome.err
    found = list(csv.DictReader(outcome.out.splitlines()))
    assert [",".join(row[name] for name in ("a", "b", "c", "kind")) for row in found] == rows
    held_out = data_split.test_part(
        torch.tensor([i % 2 == 0 for i in range(60)]).long(), 0.5, key("table", "test"), ""
    )[1].tolist()
    right = sum(found[i]["prediction"] == found[i]["kind"] for i in held_out)
    assert 100 * right / 30 == pytest.approx(results_of(folder)["final"]["test_top1"])
    assert all(0.5 <= float(row["confidence"]) <= 1 for row in found)

    (tmp_path / "new.csv").write_text("c,b,a\nw,?,3\n")  # columns in another order, a new category, no label
    outcome = predict_py(folder, tmp_path / "new.csv", "--format", "json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)
    assert row["prediction"] in ("no", "01")
    assert outcome.err.splitlines() == [
        f"{tmp_path / 'new.csv'}: column 'b' lacks 1 values; they get the median of the training samples",
        f"{tmp_path / 'new.csv'}: column 'c': 'w' occurs in no training row and counts as no category",
    ]
    (tmp_path / "own.csv").write_text("a,b,c,prediction\n1,2,x,mine\n")
    (row,) = csv.DictReader(predict_py(folder, tmp_path / "own.csv").out.splitlines())
    assert list(row) == ["a", "b", "c", "prediction", "prediction 2", "confidence", "ensemble"]
    assert row["prediction"] == "mine"
    (tmp_path / "bad.csv").write_text("c,b\nw,4\n")
    outcome = predict_py(folder, tmp_path / "bad.csv")
    assert outcome.code == 2
    assert "has no column 'a', which the network was trained on" in outcome.err


def test_json_has_all_digits_of_a_value_and_null_for_what_is_no_number():
    rows = pd.DataFrame({"a": ["x", "y"], "b": [1.5, math.nan], "prediction": [-1e-13, 0.1234567890123]})
    assert json.loads(json_of(rows), parse_constant=pytest.fail) == [
        {"a": "x", "b": 1.5, "prediction": -1e-13},
        {"a": "y", "b": None, "prediction": 0.1234567890123},
    ]


def spec_of(name: str, channels: int, size: int) -> DatasetSpec:
    return DatasetSpec(name, (channels, size, size), ("a", "b"), (0.5,) * channels, (0.5,) * channels, 1, 1)


@pytest.mark.parametrize("name", ["imagefolder", "imagenette"])
def test_an_image_becomes_what_the_evaluation_of_its_data_set_sees(name, tmp_path):
    classes = list(imagenet.IMAGENETTE) if name == "imagenette" else ["a", "b"]
    for split in ("train", "val"):
        for label in classes:
            path = tmp_path / split / label / "1.png"
            path.parent.mkdir(parents=True)
            save_image(torch.rand(3, 50, 70), path)
    reader = {"imagenette": imagenet.Imagenette, "imagefolder": ImageFolder}[name](tmp_path, 32)
    _, held_out = reader.read(torch.device("cpu"), None)
    (seen,) = held_out.read([torch.tensor([1])])
    image = read_image(spec_of(name, 3, 32), tmp_path / "val" / sorted(classes)[1] / "1.png")
    assert torch.equal(image, seen[0].permute(2, 0, 1))


def test_pixels_of_the_right_size_stay_as_they_are(tmp_path):
    colours, grey = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    grey = grey[:1]
    Image.fromarray(colours.permute(1, 2, 0).numpy()).save(tmp_path / "colours.png")
    Image.fromarray(grey[0].numpy()).save(tmp_path / "grey.png")
    assert torch.equal(read_image(spec_of("cifar10", 3, 32), tmp_path / "colours.png"), colours)
    assert torch.equal(read_image(spec_of("fashion_mnist", 1, 32), tmp_path / "grey.png"), grey)
    assert torch.equal(read_image(spec_of("cifar10", 3, 32), tmp_path / "grey.png"), grey.expand(3, -1, -1))


def test_a_file_may_have_an_equals_sign_in_its_name(folder, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "width=8.png")
    outcome = predict_py(f"run={folder}", tmp_path / "width=8.png", "format=json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)[0]["image"] == str(tmp_path / "width=8.png")
