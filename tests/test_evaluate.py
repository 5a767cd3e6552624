"""`layerwise evaluate`: a trained network on other data."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torchvision.utils import save_image

import layerwise
from helpers.run_folders import results_of
from layerwise.__main__ import main
from layerwise.analysis.evaluating import labels_of
from layerwise.core.errors import LayerwiseError
from layerwise.data import toy

PERCEPTRON = {"model": "mlp", "k": 1, **dict.fromkeys(["model.width", "model.head_width", "model.downsample"])}
IMAGES = {"dataset": "imagefolder", "dataset.size": 8, "dataset.limit_test": None, "dataset.limit": 200}


def evaluated(capfd, *words) -> dict:
    capfd.readouterr()
    main(["evaluate", *map(str, words), "--device", "cpu", "--format", "json"])
    return json.loads(capfd.readouterr().out)


def folder_of_images(root, names="0123456789", per_class=20):
    """Digits as colour images in folders of classes, perhaps in another order of the classes."""
    _, (pixels, labels) = toy.read_digits()
    for part in ("train", "val"):
        for label, name in enumerate(names):
            chosen = pixels[labels == label][:per_class]
            (root / part / name).mkdir(parents=True)
            for i, image in enumerate(chosen):
                save_image((image[..., 0].float() / 255).expand(3, -1, -1), root / part / name / f"{i}.png")
    return root


@pytest.mark.parametrize("options", [{}, {"plan": "joint"}, {"dataset.standardise": "false"}], ids=str)
def test_its_own_test_samples_have_the_scores_of_the_results(trained, capfd, options):
    folder = trained(precision="fp32", **options)
    found = evaluated(capfd, folder)
    rows = results_of(folder)["blocks"]
    assert (found["samples"], found["split"], found["dataset"]) == (100, "test", "digits")
    assert [row["block"] for row in found["blocks"]] == [row["block"] for row in rows]
    for here, there in zip(found["blocks"], rows, strict=True):
        assert here["scores"] == pytest.approx(there["test"], rel=1e-5)
        assert here["ensemble"] == pytest.approx(there["ensemble"])


def test_other_parts_of_the_data_and_all_of_them(trained, capfd):
    folder = trained(precision="fp32", **{"dataset.validation": 0.1, "evaluation.train": "true"})
    words = ["dataset=digits", "dataset.limit=200", "dataset.limit_test=100", "dataset.validation=0.1"]
    row = results_of(folder)["blocks"][-1]
    for split in ("validation", "test"):
        found = evaluated(capfd, folder, *words, "--split", split)
        assert found["blocks"][-1]["scores"] == pytest.approx(row[split], rel=1e-5)
    everything = evaluated(capfd, folder, "dataset=digits", "--split", "all")
    assert everything["samples"] == 1797
    train = evaluated(capfd, folder, *words, "--split", "train")
    assert train["blocks"][-1]["scores"] == pytest.approx(row["train"], rel=1e-5)
    with pytest.raises(SystemExit):
        main(["evaluate", str(folder), "dataset=digits", "--split", "validation"])
    assert "no samples are held out" in capfd.readouterr().err


def test_images_are_scaled_as_in_the_run_and_classes_matched_by_name(trained, capfd, tmp_path):
    """The same images, in folders whose names sort otherwise, or are called otherwise."""
    folder_of_images(tmp_path / "images")
    folder = trained(precision="fp32", **IMAGES, **{"dataset.root": tmp_path / "images"})
    rows = results_of(folder)["blocks"]
    same = evaluated(capfd, folder, "dataset=imagefolder", "dataset.size=8", f"dataset.root={tmp_path / 'images'}")
    assert [row["scores"] for row in same["blocks"]] == [pytest.approx(row["test"], rel=1e-5) for row in rows]
    words = "abcdefghij"
    folder_of_images(tmp_path / "others", words)
    renamed = evaluated(capfd, folder, "dataset=imagefolder", "dataset.size=8", f"dataset.root={tmp_path / 'others'}")
    assert renamed["blocks"] == same["blocks"]
    assert "'a' is taken for '0'" in renamed["notes"][0]
    assert same["notes"] == []


def test_classes_of_the_same_names_in_another_order_keep_their_names(tiny_data):
    trained, spec = tiny_data.spec, replace(tiny_data.spec, classes=tiny_data.spec.classes[::-1])
    labels, notes = labels_of(tiny_data, ["train", "test"], spec, trained)
    assert torch.equal(labels, 2 - torch.cat([tiny_data.labels["train"], tiny_data.labels["test"]]))
    assert notes == ["classes are matched by their names"]


def test_classes_that_are_known_in_part_are_not_matched_by_their_order(tiny_data):
    first, *others = tiny_data.spec.classes
    with pytest.raises(LayerwiseError, match=f"knows some of these classes, and not 'a {first}'"):
        labels_of(tiny_data, ["test"], replace(tiny_data.spec, classes=(*others, f"a {first}")), tiny_data.spec)
    strange = replace(tiny_data.spec, classes=tuple(f"a {name}" for name in tiny_data.spec.classes))
    assert torch.equal(labels_of(tiny_data, ["test"], strange, tiny_data.spec)[0], tiny_data.labels["test"])


def test_tables_of_the_same_columns(trained, capfd, tmp_path):
    generator = torch.Generator().manual_seed(0)

    def table(name, n, shift=0.0, columns=("a", "b")):
        x = torch.randn(n, 2, generator=generator) + shift
        frame = pd.DataFrame({columns[0]: x[:, 0].numpy(), columns[1]: x[:, 1].numpy()})
        frame["class"] = ["high" if high else "low" for high in (x.sum(dim=1) > shift * 2).tolist()]
        frame.loc[0, columns[0]] = None
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    first, second = table("first.csv", 300), table("second.csv", 100, shift=0.5)
    limits = dict.fromkeys(["dataset.limit", "dataset.limit_test"])
    folder = trained(dataset="table", precision="fp32", **{"dataset.path": first, "epochs": 6}, **PERCEPTRON, **limits)
    own = evaluated(capfd, folder)
    assert own["blocks"][-1]["scores"] == pytest.approx(results_of(folder)["blocks"][-1]["test"], rel=1e-5)
    other = evaluated(capfd, folder, "dataset=table", f"dataset.path={second}", "--split", "all")
    assert (other["samples"], other["dataset"]) == (100, "second.csv")
    frame = pd.read_csv(second)
    net = layerwise.load(folder)
    x = torch.tensor(frame[["a", "b"]].to_numpy())
    guesses = [net.spec.classes[i] for i in net(net.normalise(x)).argmax(dim=1).tolist()]
    assert other["blocks"][-1]["scores"]["top1"] == pytest.approx(100 * (frame["class"] == guesses).mean())
    third = table("third.csv", 50, columns=("a", "c"))
    with pytest.raises(SystemExit):
        main(["evaluate", str(folder), "dataset=table", f"dataset.path={third}"])
    assert "third.csv: has no column 'b', which the network was trained on" in capfd.readouterr().err


def test_a_table_is_read_by_the_names_of_its_columns_and_the_categories_of_the_run(trained, capfd, tmp_path):
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).numpy()
    frame = pd.DataFrame({"a": 5 * x[:, 0], "b": x[:, 1], "c": ["x", "y", "z", "x"] * 50})
    frame["class"] = ["high" if high else "low" for high in x[:, 0] > 0]
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = {"dataset": "table", "dataset.path": tmp_path / "t.csv", "epochs": 6, **PERCEPTRON}
    folder = trained(precision="fp32", **table, **dict.fromkeys(["dataset.limit", "dataset.limit_test"]))

    def scored(rows):
        rows.to_csv(tmp_path / "new.csv", index=False)
        return evaluated(capfd, folder, "dataset=table", f"dataset.path={tmp_path / 'new.csv'}", "--split", "all")

    same = scored(frame)
    assert same["blocks"][-1]["scores"]["top1"] > 90
    turned = scored(frame.assign(more=1.0)[["c", "more", "b", "a", "class"]])
    assert turned["blocks"][-1]["scores"] == pytest.approx(same["blocks"][-1]["scores"], rel=1e-5)
    few = frame[frame.c != "z"]
    net = layerwise.load(folder)
    rows = torch.tensor([[a, b, c == "x", c == "y", 0] for a, b, c in few[["a", "b", "c"]].to_numpy()]).double()
    guesses = [net.spec.classes[i] for i in net(net.normalise(rows)).argmax(dim=1).tolist()]
    assert scored(few)["blocks"][-1]["scores"]["top1"] == pytest.approx(100 * (few["class"] == guesses).mean())
    for wrong, said in (
        (frame.assign(c=1.0), "column 'c': holds numbers, and the run was trained on the texts 'x', 'y', 'z'"),
        (frame[["class", "a", "b", "c"]].rename(columns={"class": "k"}), "'c' is taken for the label"),
    ):
        with pytest.raises(SystemExit):
            scored(wrong)
        assert said in capfd.readouterr().err


def test_real_valued_targets_are_scored_in_their_unit(trained, capfd, tmp_path):
    x = torch.linspace(-1, 1, 200)
    for name, factor in (("one.csv", 1.0), ("half.csv", 0.5)):
        frame = pd.DataFrame({"x": (x * factor).numpy(), "y": (100 + 50 * x * factor).numpy()})
        frame.to_csv(tmp_path / name, index=False)
    table = {
        "dataset": "table",
        "dataset.task": "regression",
        "dataset.label": "y",
        "dataset.path": tmp_path / "one.csv",
    }
    limits = dict.fromkeys(["dataset.limit", "dataset.limit_test"])
    folder = trained(precision="fp32", **table, **PERCEPTRON, **limits, **{"epochs": 10, "optimizer.lr": 0.05})
    own = evaluated(capfd, folder)
    assert own["blocks"][-1]["scores"]["mae"] == pytest.approx(
        results_of(folder)["blocks"][-1]["test"]["mae"], rel=1e-4
    )
    words = ["dataset=table", "dataset.task=regression", "dataset.label=y", f"dataset.path={tmp_path / 'half.csv'}"]
    half = evaluated(capfd, folder, *words, "--split", "all")
    net = layerwise.load(folder)
    with torch.no_grad():
        values = net.in_units(net(net.normalise(x[:, None].double() * 0.5))).squeeze(1)
    assert half["blocks"][-1]["scores"]["mae"] == pytest.approx(float((values - (100 + 25 * x)).abs().mean()), rel=1e-3)


def test_csv_and_table(trained, capfd):
    folder = trained(precision="fp32")
    capfd.readouterr()
    main(["evaluate", str(folder), "--format", "csv"])
    frame = pd.read_csv(io.StringIO(capfd.readouterr().out))
    assert list(frame.columns) == ["block", "loss", "top1", "top5", "ensemble_top1", "ensemble_top5"]
    assert list(frame.ensemble_top1) == [row["ensemble"]["top1"] for row in results_of(folder)["blocks"]]
    main(["evaluate", str(folder)])
    assert "100 samples of digits (test)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=fashion_mnist"], "samples of shape 1×28×28; the run was trained on 1×8×8"),
        (["dataset=blobs"], "samples of shape 2; the run was trained on 1×8×8"),
        (["dataset.root=here"], "name the data set, too"),
        (["k=3"], "only the data can be chosen"),
        (["dataset=digitz"], "digits"),
        (["dataset=digits", "dataset.limt_test=3"], "dataset.limit_test"),
    ],
)
def test_what_does_not_fit_is_named(trained, capfd, words, message):
    folder = trained(epochs=1)
    with pytest.raises(SystemExit):
        main(["evaluate", str(folder), *words])
    assert message in capfd.readouterr().err


def test_another_number_of_classes_is_named(trained, capfd, tmp_path):
    folder_of_images(tmp_path / "images", per_class=10)
    folder = trained(epochs=1, batch_size=20, **IMAGES | {"dataset.limit": None, "dataset.root": tmp_path / "images"})
    folder_of_images(tmp_path / "fewer", names="012")
    with pytest.raises(SystemExit):
        main(["evaluate", str(folder), "dataset=imagefolder", "dataset.size=8", f"dataset.root={tmp_path / 'fewer'}"])
    assert "3 classes; the run was trained on 10" in capfd.readouterr().err
