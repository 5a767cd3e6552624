"""Tables: what is read from CSV and NumPy files, what is refused, and runs on them."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import layerwise
from helpers.commands import assert_refused
from helpers.data import CPU
from helpers.run_folders import only_run, results_of
from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.data.factory import load
from layerwise.data.table import Table, classes_of, rows_of
from layerwise.data.table_columns import Column, encode
from layerwise.data.table_file import TableFiles

IRIS = "length,width,species\n5.1,3.5,setosa\n7.0,3.2,versicolor\n4.9,3.0,setosa\n6.4,3.1,versicolor\n"


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def clouds(rows: int = 120, classes: int = 3, features: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of points that are easily told apart, of unequal scales."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = rng.normal(size=(rows, features)) + 4 * rng.normal(size=(classes, features))[y]
    return x * 10.0 ** np.arange(features), y


def write_clouds(path: Path, names: str = "abc", **options: int) -> Path:
    x, y = clouds(**options)
    lines = [",".join([*map(repr, row.tolist()), names[c]]) for row, c in zip(x, y, strict=True)]
    path.write_text("\n".join([",".join([*(f"f{i}" for i in range(x.shape[1])), "kind"]), *lines]) + "\n")
    return path


def read_file(path: Path, label: str | None, **options: object) -> SimpleNamespace:
    """A file's columns, labels, classes and features [N, F]."""
    files = TableFiles(path, label, **options)
    frame, labels = rows_of(files, path)
    kinds = {name: Column(path, frame[name], files).categories(np.arange(len(frame))) for name in frame}
    features = encode(path, frame, kinds, files)
    return SimpleNamespace(columns=tuple(frame), labels=tuple(labels), classes=classes_of(labels), features=features)


# What is read


def test_a_csv_file_gives_features_labels_and_column_names(tmp_path):
    table = read_file(write(tmp_path, IRIS), None)
    assert table.columns == ("length", "width")
    assert table.classes == ("setosa", "versicolor")
    assert table.labels == ("setosa", "versicolor", "setosa", "versicolor")
    assert table.features.tolist() == [[5.1, 3.5], [7.0, 3.2], [4.9, 3.0], [6.4, 3.1]]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + IRIS,
        IRIS.replace("\n", "\r\n"),
        IRIS.replace("\n", "\n\n"),
        "\n  \n" + IRIS.replace("\n", "\n   \n"),
        IRIS.replace(",", " , "),
        IRIS.rstrip("\n"),
        IRIS.replace("5.1", '"5.1"').replace("species", '"species"').replace("versicolor", '"versicolor"'),
    ],
    ids=["BOM", "CRLF", "blank lines", "lines of spaces", "spaces", "no newline at the end", "quotes"],
)
def test_ways_to_write_the_same_csv_file(tmp_path, text):
    table, plain = read_file(write(tmp_path, text), None), read_file(write(tmp_path, IRIS, "plain.csv"), None)
    assert (table.columns, table.labels) == (plain.columns, plain.labels)
    assert torch.equal(table.features, plain.features)


def test_quoted_cells_may_hold_commas_quotes_and_line_breaks(tmp_path):
    table = read_file(write(tmp_path, '"a, b","say ""x""",kind\n1,2,"red, or\nso"\n3,4,blue\n'), None)
    assert table.columns == ("a, b", 'say "x"')
    assert table.classes == ("blue", "red, or\nso")


def test_numbers_may_be_written_in_any_way(tmp_path):
    table = read_file(write(tmp_path, "a,b,y\n1,-2.5e-3,0\n+.5,1E2,1\n"), None)
    assert table.features.tolist() == [[1, -2.5e-3], [0.5, 100]]


def test_features_stay_float64_until_they_are_centred(tmp_path):
    x = 1_700_000_000 + np.arange(40) % 2 * 1e-3  # equal in float32
    np.savez(tmp_path / "t.npz", x=x[:, None], y=np.arange(40) % 2)
    files = TableFiles(tmp_path / "t.npz")
    values = load(Table(files), CPU).splits["train"].values
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.unique(), torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("label", "columns", "classes"),
    [(None, ("a", "b"), ("5", "6")), ("c", ("a", "b"), ("5", "6")), ("a", ("b", "c"), ("1", "2"))],
)
def test_the_label_is_the_last_column_or_a_named_one(tmp_path, label, columns, classes):
    table = read_file(write(tmp_path, "a,b,c\n1,3,5\n2,4,6\n"), label)
    assert (table.columns, table.classes) == (columns, classes)


@pytest.mark.parametrize(("label", "columns"), [(None, ("0", "1")), ("2", ("0", "1")), ("0", ("1", "2"))])
def test_columns_of_an_npy_file_are_numbered(tmp_path, label, columns):
    np.save(tmp_path / "t.npy", np.array([[1, 3, 5], [2, 4, 6]], dtype=np.int32))
    table = read_file(tmp_path / "t.npy", label)
    assert table.columns == columns
    assert table.classes == (("1", "2") if label == "0" else ("5", "6"))
    assert table.features.tolist() == ([[3, 5], [4, 6]] if label == "0" else [[1, 3], [2, 4]])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["t.npz", "T.NPZ"])
def test_an_npz_file_holds_x_and_y(tmp_path, compressed, name):
    x, y = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float64), np.array(["no", "yes", "no"])
    with open(tmp_path / name, "wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, x=x, y=y)
    table = read_file(tmp_path / name, None)
    assert table.features.tolist() == x.tolist()
    assert table.labels == ("no", "yes", "no")
    assert read_file(tmp_path / name, "y").labels == table.labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["2.0", "10.0", "1e0"], ("10.0", "1e0", "2.0")),
        (["01", "1", "02", "1"], ("01", "1", "02")),
        (["1_1", "11", "2_0"], ("11", "1_1", "2_0")),
        (["b", "A", "10"], ("10", "A", "b")),
        (["True", "False", "True"], ("False", "True")),
        (["9007199254740993", "9007199254740992", "1"], ("1", "9007199254740992", "9007199254740993")),
        (["²", "1", "--1"], ("--1", "1", "²")),
    ],
)
def test_classes_are_in_the_order_of_numbers_or_of_the_alphabet(tmp_path, labels, classes):
    text = "a,y\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    assert read_file(write(tmp_path, text), None).classes == classes


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, np.float64, bool])
def test_labels_of_numpy_arrays_of_any_kind(tmp_path, dtype):
    np.savez(tmp_path / "t.npz", x=np.zeros((4, 1)), y=np.array([0, 1, 1, 0], dtype=dtype))
    assert read_file(tmp_path / "t.npz", None).classes == (("False", "True") if dtype is bool else ("0", "1"))


def test_a_file_that_was_rewritten_is_read_again(tmp_path):
    path = write(tmp_path, IRIS)
    assert read_file(path, None).features[0, 0].item() == pytest.approx(5.1)
    path.write_text(IRIS.replace("5.1", "8.25"))
    assert read_file(path, None).features[0, 0].item() == 8.25


def test_semicolons_tabs_and_bars_separate_cells_too(tmp_path):
    plain = read_file(write(tmp_path, IRIS), None)
    for separator in ";\t|":
        found = read_file(write(tmp_path, IRIS.replace(",", separator), "other.csv"), None)
        assert (found.columns, found.labels, found.features.tolist()) == (
            plain.columns,
            plain.labels,
            plain.features.tolist(),
        )
    european = IRIS.replace(",", ";").replace(".", ",")
    assert read_file(write(tmp_path, european, "other.csv"), None).features.tolist() == plain.features.tolist()
    for separator, name in {"\t": "tab", " ": "space"}.items():
        other = write(tmp_path, IRIS.replace(",", separator), "other.csv")
        assert read_file(other, None, separator=name).features.tolist() == plain.features.tolist()
    odd = write(tmp_path, IRIS.replace(",", "~"), "odd.csv")
    assert read_file(odd, None, separator="~").columns == plain.columns
    assert "dataset.separator" in refusal(odd)
    assert "cannot be read as CSV" in refusal(odd, separator="~~")


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ('"a, b, c";"d";kind', "{x};{y};{name}"),
        ("Temp, °C; d;kind", "{x};{y};{name}"),
        ("Temp, °C\td\tkind", "{x}\t{y}\t{name}"),
        ("a;b,d,kind", '"{x}","{y}",{name}'),
    ],
)
def test_what_separates_the_cells_is_what_fits_all_rows(tmp_path, header, rows):
    lines = [rows.format(x=i, y=i % 3, name="uv"[i % 2]) for i in range(8)]
    table = read_file(write(tmp_path, "\n".join([header, *lines])), "kind")
    assert len(table.columns) == 2
    assert table.features.tolist() == [[i, i % 3] for i in range(8)]
    assert table.classes == ("u", "v")


@pytest.mark.parametrize("separator", ";\t|")
def test_decimal_commas_stay_numbers_where_some_are_missing(tmp_path, separator):
    text = "a;b;kind\n1,5;-3;u\nNA;,25;v\n2;1,5e2;u\n;1,;v\n".replace(";", separator)
    features = read_file(write(tmp_path, text), None).features
    assert features.nan_to_num(nan=99.0).tolist() == [[1.5, -3], [99, 0.25], [2, 150], [99, 1]]


MIXED = "id,sex,age,deck,survived\n" + "".join(
    f"{i},{'male' if i % 3 else 'female'},{'' if i % 7 == 0 else 20 + i},{['A', 'B', '?'][i % 3]},{i % 2}\n"
    for i in range(1, 41)
)


def test_text_becomes_one_hot_and_missing_numbers_the_median_of_the_training_part(tmp_path, capfd):
    files = TableFiles(write(tmp_path, MIXED), drop=("id",))
    described = Table(files).spec()
    assert described.columns == {"sex": ["female", "male"], "age": None, "deck": ["", "A", "B"]}
    assert described.shape == (6,)
    raw, _ = Table(files).tensors()[0]
    ages = raw[:, 2]
    data = load(Table(files), CPU, standardise=False, validation=0.2)
    kept = data.splits["train"].samples
    assert data.spec.fill[2] == ages[kept].nanmedian().item() != ages.nanmedian().item()
    filled = data.splits["train"].values[:, 2][ages[kept].isnan()]
    assert filled.unique().tolist() == [data.spec.fill[2]]
    for name in ("train", "validation", "test"):
        values = data.splits[name].values
        assert values[:, :2].sum(dim=1).eq(1).all()
        assert values[:, 3:].sum(dim=1).eq(1).all()
    said = capfd.readouterr().err
    for words in (
        "column 'sex' is text; it became one-hot: 2 categories",
        "column 'age' lacks",
        "? is read as missing",
    ):
        assert words in said, said
    assert "counts the rows" not in said
    assert all(f"{files.path}: {note}" in said for note in data.spec.notes)
    assert len(data.spec.notes) == 5
    assert DatasetSpec.from_json(data.spec.to_json()) == data.spec


def test_missing_numbers_of_a_numpy_file_are_told_too(tmp_path, capfd):
    x, y = clouds(rows=20)
    x[::4, 1] = np.nan
    np.savez(tmp_path / "holes.npz", x=x, y=y)
    files = TableFiles(tmp_path / "holes.npz")
    assert load(Table(files), CPU).splits["train"].values.isfinite().all()
    assert "holes.npz: column '1' lacks 5 values; they get the median" in capfd.readouterr().err


def test_columns_are_chosen_or_left_out_by_name(tmp_path):
    path = write(tmp_path, MIXED)
    assert list(Table(TableFiles(path, columns=("age", "sex", "survived"))).spec().columns) == ["age", "sex"]
    assert list(Table(TableFiles(path, label="sex", drop=("id", "deck"))).spec().columns) == ["age", "survived"]
    assert "dataset.drop" in refusal(path, drop=("agee",))
    assert "Did you mean 'age'?" in refusal(path, columns=("agee",))


def test_a_column_that_counts_the_rows_is_named(tmp_path, capfd):
    Table(TableFiles(write(tmp_path, MIXED, "counted.csv"))).tensors()
    assert "counted.csv: warning: column 'id' counts the rows in file order" in capfd.readouterr().err
    with_index = "".join(f"{i - 1 if i else ''},{line}\n" for i, line in enumerate(MIXED.splitlines()))
    Table(TableFiles(write(tmp_path, with_index, "saved.csv"), drop=("id",))).tensors()
    assert "dataset.drop=[unnamed 1]" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (range(7, 47), "counts the rows in file order"),
        (range(40, 0, -1), "falls from row to row"),
        ([2 * i + i % 2 for i in range(40)], "rises from row to row"),
        ([i * 0.25 for i in range(40)], "rises from row to row"),
        ([i * 17 % 40 for i in range(40)], "counts the rows in another order"),
        ([i * 17 % 59 for i in range(40)], "counts the rows in another order"),
        ([i * 17 % 40 // 2 for i in range(40)], None),
        ([i * 170 % 1000 for i in range(40)], None),
        (["", *range(39)], None),
    ],
)
def test_an_index_is_named_in_any_order(tmp_path, numbers, words):
    path = write(tmp_path, "x,kind\n" + "".join(f"{x},{'uv'[i // 20]}\n" for i, x in enumerate(numbers)))
    found = [note for note in Table(TableFiles(path)).spec().notes if note.startswith("warning")]
    assert found == (
        []
        if words is None
        else [
            f"warning: column 'x' {words}, which may give the label away. If it is an index, leave it out: "
            "dataset.drop=[x]"
        ]
    )


def test_a_guessed_label_and_classes_of_one_row_are_told(tmp_path):
    path = write(tmp_path, "x,kind\n" + "".join(f"{i % 3},{k}\n" for i, k in enumerate("aaabbbcdaaabbb")))
    notes = Table(TableFiles(path)).spec().notes
    assert notes[0] == "the label is the last column, 'kind'; dataset.label names another"
    assert notes[1].startswith("warning: classes of a single row")
    assert notes[1].endswith(": c, d")
    assert not [note for note in Table(TableFiles(path, "kind")).spec().notes if "last column" in note]


def test_labels_that_are_almost_all_different_are_refused(tmp_path):
    few = "x,kind\n" + "".join(f"{i % 3},{max(i, 10)}\n" for i in range(30))
    assert "19 of the 30 rows have a label of their own" in refusal(write(tmp_path, few))


# Training and test rows


def test_test_rows_are_stratified_and_always_the_same(tmp_path):
    x, y = np.arange(100.0)[:, None], np.repeat([0, 1, 2], [60, 30, 10])
    np.savez(tmp_path / "t.npz", x=x, y=y)
    (train, train_labels), (test, test_labels) = Table(TableFiles(tmp_path / "t.npz")).tensors()
    assert torch.bincount(test_labels).tolist() == [12, 6, 2]
    assert torch.bincount(train_labels).tolist() == [48, 24, 8]
    rows = [set(part.flatten().tolist()) for part in (train, test)]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == set(range(100))
    for values, labels in ((train, train_labels), (test, test_labels)):  # still belong together
        assert torch.equal(torch.from_numpy(y)[values.flatten().long()], labels)
    files = TableFiles(tmp_path / "t.npz")
    loaded = [load(Table(files), CPU, standardise=False, seed=seed) for seed in (0, 1)]
    for data in loaded:
        assert torch.equal(data.splits["test"].values, test)


@settings(deadline=None)
@given(st.integers(2, 40), st.floats(0.01, 0.99))
def test_the_test_part_has_the_size_that_was_asked_for(tmp_path_factory, rows, part):
    path = tmp_path_factory.getbasetemp() / f"rows-{rows}.npy"
    if not path.exists():
        np.save(path, np.stack([np.arange(rows), np.arange(rows) % 2], axis=1))
    held = round(part * rows)
    if 0 < held < rows:
        (train, _), (test, _) = Table(TableFiles(path, test=part)).tensors()
        assert (len(train), len(test)) == (rows - held, held)
    else:
        with pytest.raises(LayerwiseError, match=f"dataset.test={part}"):
            Table(TableFiles(path, test=part)).tensors()


def test_a_second_table_to_test_on(tmp_path):
    train_path = write(tmp_path, "a,y\n1,x\n2,y\n3,z\n")
    test_path = write(tmp_path, "a,y\n5,z\n4,x\n", "test.csv")  # not all classes need to be there
    (train, train_labels), (test, test_labels) = Table(TableFiles(train_path, test_path=test_path)).tensors()
    assert (train.tolist(), train_labels.tolist()) == ([[1], [2], [3]], [0, 1, 2])
    assert (test.tolist(), test_labels.tolist()) == ([[5], [4]], [2, 0])
    described = Table(TableFiles(train_path, test_path=test_path)).spec()
    assert (described.shape, described.classes) == ((1,), ("x", "y", "z"))
    assert (described.train_samples, described.test_samples) == (3, 2)


def test_a_specification_survives_its_file_and_tells_contents_apart(tmp_path):
    path = write(tmp_path, IRIS)
    before = Table(TableFiles(path, test=0.5)).spec()
    assert DatasetSpec.from_json(before.to_json()) == before
    path.write_text(IRIS.replace("6.4", "6.5"))
    after = Table(TableFiles(path, test=0.5)).spec()
    assert not before.agrees_with(after)
    path.write_text(IRIS.replace(",", " ,"))  # written differently, and the same table
    assert before.agrees_with(Table(TableFiles(path, test=0.5)).spec())


def test_constant_columns_become_zero(tmp_path):
    x, y = clouds()
    x[:, 1] = 0.1
    np.savez(tmp_path / "t.npz", x=x, y=y)
    files = TableFiles(tmp_path / "t.npz")
    data = load(Table(files), CPU)
    for split in data.splits.values():
        assert split.values[:, 1].abs().max() < 1e-6
        assert split.values.abs().max() < 10


# What is refused


def refusal(path: Path, label: str | None = None, **options: object) -> str:
    with pytest.raises(LayerwiseError) as caught:
        Table(TableFiles(path, label, **{"test": 0.5, **options})).spec()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty", "names of the columns"]),
        ("\n  \n", ["is empty"]),
        ("a,b,y\n", ["0 rows"]),
        ("y\n1\n2\n", ["0 columns", "dataset.separator"]),
        ("1,2,0\n3,4,1\n", ["first line holds a row", "names of the columns"]),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n7,3,virginica\n", ["first line holds a row", "names of the columns"]),
        ("a,b,y\n1,2,x\n3,four,z\n", ["row 2", "column 'b'", "'four'", "is no number", "dataset.drop=[b]"]),
        ('a,b,y\n"1,5",2,x\n3,4,z\n', ["row 1", "column 'a'", "'1,5'", "is no number"]),
        ("a,b,y\n1,inf,x\n3,4,z\n", ["row 1", "column 'b'", "infinite", "leave that row or column out"]),
        ("a,b,y\n1,2,x\n3,-Infinity,z\n", ["row 2", "column 'b'", "infinite"]),
        (
            "a,b,y\n1,2,0.5\n3,4,1\n",
            ["row 1", "column 'y'", "0.5 is no class", "dataset.task=regression", "dataset.label"],
        ),
        ("a,b,y\n1,2,0\n3,4,inf\n", ["row 2", "column 'y'", "inf is no class"]),
        ("a,a,y\n1,2,x\n3,4,z\n", ["column name 'a' occurs more than once"]),
        ("red,5.1,setosa\nblue,4.9,setosa\nred,3,virginica\n", ["first line holds a row"]),
        ('a,b,y\n"1"2,2,x\n3,4,z\n', ["cannot be read as CSV"]),
        ('a,b,y\n1,2,x\n3,4,"z\n', ["cannot be read as CSV"]),
        ("class,b,c\n1,2,x\n3,4,z\n", ["'c', would be taken for the label", "'class'", "dataset.label=class"]),
        ("a,b,y\n" + "".join(f"0,1,n{i}\n" for i in range(10)), ["column 'y'", "10 of the 10 rows have a label"]),
        ("a,b,y\n1_0,2,x\n3,4,z\n", ["column 'a'", "'1_0'", "is no number"]),
        ("a,b,y\n1,,x\n3,,z\n", ["column 'b'", "no training row has a value", "dataset.drop=[b]"]),
        ("a,b,y\n" + "".join(f"0,name {i},{i % 2}\n" for i in range(300)), ["column 'b'", "different texts, too many"]),
        ("a,b,y\n1,2,x\n3,4,x\n", ["the label 'x'", "nothing to predict", "dataset.label"]),
        ("a,b,y\n1,2,x\n3,z\n", ["row 2", "has 2 cells", "names 3 columns"]),
        ("a,b,y\n1,2,x,\n3,4,z\n", ["row 1", "has 4 cells", "names 3 columns"]),
        ("a,b,y\n\n1,2,x\n3,4\n", ["row 2", "has 2 cells"]),
    ],
)
def test_a_csv_file_that_is_no_table(tmp_path, text, words):
    path = write(tmp_path, text)
    message = refusal(path)
    for word in (str(path), *words):
        assert word in message, message


@pytest.mark.parametrize("missing", ["", " ", "NA", "n/a", "N/A", "nan", "NaN", "NULL", "null", "None", "?"])
def test_a_missing_label_in_any_spelling_is_refused(tmp_path, missing):
    message = refusal(write(tmp_path, f"a,b,y\n1,2,x\n3,4,{missing}\n", "label.csv"))
    for word in ("label.csv", "row 2", "column 'y'", "Fill it in, or leave that row"):
        assert word in message, message
    if missing.strip():
        assert f"the word '{missing}' is read as missing" in message
        assert "dataset.missing=[''" in message
        kept = read_file(tmp_path / "label.csv", None, missing=("",))
        assert kept.classes == tuple(sorted((missing, "x")))


@pytest.mark.parametrize("content", ["a,grün,y\n1,2,x\n".encode("latin-1"), IRIS.encode("utf-16")])
def test_text_that_is_not_utf8(tmp_path, content):
    path = write(tmp_path, content)
    message = refusal(path)
    assert str(path) in message
    assert "UTF-8" in message


def test_a_file_that_is_absent(tmp_path):
    assert f"dataset.path={tmp_path / 'no.csv'}" in refusal(tmp_path / "no.csv")
    assert f"dataset.path={tmp_path}" in refusal(tmp_path)  # a folder
    there = write(tmp_path, IRIS)
    message = refusal(there, test_path=tmp_path / "no.csv")
    assert f"dataset.test_path={tmp_path / 'no.csv'}" in message
    assert "no such file" in message


def test_a_label_column_that_is_absent_or_not_the_only_one(tmp_path):
    path = write(tmp_path, IRIS)
    message = refusal(path, "specis")
    for word in ("dataset.label=specis", str(path), "Did you mean 'species'?"):
        assert word in message, message
    assert "Known: length, species, width" in refusal(path, "colour")
    message = refusal(write(tmp_path, "y,a,y\n1,2,3\n2,3,4\n", "twice.csv"), "y")
    assert "column name 'y' occurs more than once" in message
    np.save(tmp_path / "t.npy", np.ones((2, 3)))
    assert "dataset.label=3" in refusal(tmp_path / "t.npy", "3")
    np.savez(tmp_path / "t.npz", x=np.ones((2, 3)), y=np.arange(2))
    message = refusal(tmp_path / "t.npz", "x")
    assert "dataset.label=x" in message
    assert "Known: 0, 1, 2, y" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("length,height,species\n1,2,setosa\n", ["missing ['width'], unknown ['height']"]),
        ("length,species\n1,setosa\n", ["missing ['width'], unknown none"]),
        ("length,width,species\n1,2,virginica\n", ["class 'virginica' does not occur", "table.csv"]),
        ("length,width,species\n1,wide,setosa\n", ["row 1", "column 'width'", "'wide' is no number"]),
        ("length,width,species\n", ["0 rows"]),
    ],
)
def test_a_test_table_that_does_not_fit(tmp_path, text, words):
    other = write(tmp_path, text, "other.csv")
    message = refusal(write(tmp_path, IRIS), test_path=other)
    for word in (str(other), *words):
        assert word in message, message


@pytest.mark.parametrize(("part", "left"), [(0.01, "0 to test on"), (0.99, "0 to train on")])
def test_a_test_part_that_leaves_no_rows(tmp_path, part, left):
    message = refusal(write(tmp_path, IRIS), test=part)
    for word in (f"dataset.test={part}", "of the 4 samples", left):
        assert word in message, message


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_in_numpy_files(tmp_path, value):
    array = np.array([[1, 2, 0], [3, value, 1]])
    np.save(tmp_path / "t.npy", array)
    message = refusal(tmp_path / "t.npy")
    for word in ("t.npy", "row 2", "column '1'", "infinite"):
        assert word in message, message
    np.savez(tmp_path / "t.npz", x=array[:, :2], y=array[:, 2])
    assert "row 2, column '1'" in refusal(tmp_path / "t.npz")


def test_differences_beyond_float32_are_refused_unless_they_are_scaled(tmp_path):
    x = np.array([[1.7e9, 0.1, 3], [1.7e9 + 1, 0.1, 4]] * 20)
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(40) // 2 % 2)
    files = TableFiles(tmp_path / "t.npz")
    with pytest.raises(LayerwiseError, match=r"float32 would merge them\. Scale them with dataset.standardise=true"):
        load(Table(files), CPU, standardise=False)
    assert len(load(Table(files), CPU).splits["train"].values[:, 0].unique()) == 2
    np.savez(tmp_path / "t.npz", x=x[:, 1:], y=np.arange(40) // 2 % 2)  # a constant that float32 rounds
    assert load(Table(files), CPU, standardise=False).splits["train"].values[0, 1] in (3, 4)


def test_values_beyond_float32_are_refused_unless_they_are_scaled(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.arange(20.0)[:, None] ** 2 * 1e300, y=np.arange(20) % 2)
    files = TableFiles(tmp_path / "t.npz")
    assert load(Table(files), CPU).splits["train"].values.abs().max() < 10
    with pytest.raises(LayerwiseError, match=r"too large for float32.*dataset\.standardise=true"):
        load(Table(files), CPU, standardise=False)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": [0, 1]}, ["x", "x [N, F] and y [N]"]),
        ({"x": [[1.0], [2.0]]}, ["y", "x [N, F] and y [N]"]),
        ({"x": [[1.0], [2.0]], "y": [0, 1, 1]}, ["x has 2 rows and y has 3", "one for each sample"]),
        ({"x": [1.0, 2.0], "y": [0, 1]}, ["x is float64 of shape (2,)", "two axes"]),
        ({"x": [[1.0], [2.0]], "y": [[0], [1]]}, ["y is int64 of shape (2, 1)", "one axis"]),
        ({"x": [["1"], ["2"]], "y": [0, 1]}, ["x is <U1", "numbers along two axes"]),
        ({"x": [[1j], [2j]], "y": [0, 1]}, ["x is complex128"]),
        ({"x": [[1.0], [2.0]], "y": [0, np.nan]}, ["row 2", "column 'y'", "missing"]),
        ({"x": [[1.0], [2.0]], "y": [0, 0.25]}, ["row 2", "column 'y'", "0.25 is no class"]),
        ({"x": [[1.0], [2.0]], "y": ["a", ""]}, ["row 2", "column 'y'", "missing"]),
        ({"x": [[1.0], [2.0]], "y": [7, 7]}, ["the label '7'"]),
        ({"x": [[], []], "y": [0, 1]}, ["shape (2, 0)"]),
    ],
)
def test_an_npz_file_that_is_no_table(tmp_path, arrays, words):
    np.savez(tmp_path / "t.npz", **{name: np.array(values) for name, values in arrays.items()})
    message = refusal(tmp_path / "t.npz")
    for word in (str(tmp_path / "t.npz"), *words):
        assert word in message, message


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), ["shape (3,)", "two axes", "[N, F + 1]"]),
        (np.zeros((2, 2, 2)), ["shape (2, 2, 2)"]),
        (np.array([["a", "b"]]), ["numbers along two axes"]),
        (np.zeros((0, 3)), ["0 rows"]),
        (np.zeros((3, 0)), ["shape (3, 0)", "[N, F + 1]"]),
        (np.arange(3)[:, None], ["0 columns"]),
    ],
)
def test_an_npy_file_that_is_no_table(tmp_path, array, words):
    np.save(tmp_path / "t.npy", array)
    message = refusal(tmp_path / "t.npy")
    for word in (str(tmp_path / "t.npy"), *words):
        assert word in message, message


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["npy", "x", "y", "plain pickle"])
def test_pickled_objects_are_refused_and_not_run(tmp_path, kind):
    sprung, path = tmp_path / "sprung", tmp_path / ("t.npy" if kind in ("npy", "plain pickle") else "t.npz")
    trap = np.empty(2, dtype=object)
    trap[:] = [Trap(sprung), 1]
    if kind == "npy":
        np.save(path, np.stack([trap, trap]))
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        np.savez(path, **{"x": np.ones((2, 1)), "y": np.arange(2), kind: trap if kind == "y" else trap[:, None]})
    message = refusal(path)
    assert str(path) in message
    assert "Python objects" in message
    assert "unsafely" not in message  # NumPy's own advice
    assert not sprung.exists()


def test_damaged_numpy_files(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(500, 2)), np.arange(500) % 2
    path = tmp_path / "t.npz"
    np.savez_compressed(path, x=x, y=y)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-40], whole[:200] + b"\xff" * 60 + whole[260:]):
        path.write_bytes(damaged)
        assert str(path) in refusal(path)
    np.save(tmp_path / "t.npy", np.column_stack([x, y]))
    whole_array = (tmp_path / "t.npy").read_bytes()
    for damaged in (b"", whole_array[:50], whole_array[:-8], b"a,b\n1,2\n"):
        (tmp_path / "t.npy").write_bytes(damaged)
        assert str(tmp_path / "t.npy") in refusal(tmp_path / "t.npy")
    path.write_bytes(whole_array)  # the one under the other's name
    assert "content of a .npy file" in refusal(path)
    (tmp_path / "t.npy").write_bytes(whole)
    assert "content of a .npz file" in refusal(tmp_path / "t.npy")
    with zipfile.ZipFile(path, "w") as archive:  # a zip file, and its members no arrays
        archive.writestr("x.npy", "1")
        archive.writestr("y.npy", "1")
    assert "its x is no array" in refusal(path)


# Runs

MLP = {
    "dataset": "table",
    "model": "mlp",
    "model.downsample": None,
    "dataset.limit": None,
    "dataset.limit_test": None,
    "batch_size": 16,
    "model.width": 16,
}


def test_a_table_is_trained_on_to_the_end_and_the_network_scores_its_raw_rows(train_py, tmp_path):
    path = write_clouds(tmp_path / "clouds.csv")
    outcome = train_py(**MLP, epochs=4, **{"dataset.path": path, "dataset.test": 0.25, "report": "true"})
    assert outcome.code == 0, outcome.err
    folder = only_run(tmp_path)
    results = results_of(folder)
    final = results["final"]
    assert final["test_top1"] > 60
    assert results["dataset"] == "clouds.csv"  # its own name
    assert f"{results['name']} on clouds.csv" in outcome.out
    assert "perceptron, on clouds.csv, greedy" in (folder / "report.html").read_text()
    net = layerwise.load(folder)
    assert net.spec.classes == ("a", "b", "c")
    _, (rows, labels) = Table(TableFiles(path, test=0.25)).tensors()
    with torch.no_grad():
        predicted = net(net.normalise(rows)).argmax(dim=1)
    assert 100 * (predicted == labels).double().mean().item() == pytest.approx(final["test_top1"])


def test_two_classes_can_have_a_single_logit(train_py, tmp_path):
    path = write_clouds(tmp_path / "clouds.csv", names="ab", classes=2)
    options = {"objective.single_logit": "true", "objective.loss": "binary_cross_entropy", "precision": "fp32"}
    options |= {"dataset.path": path, "dataset.test": 0.25, "optimizer.lr": 0.1, "report": "true"}
    outcome = train_py(**MLP, epochs=8, **options)
    assert outcome.code == 0, outcome.err
    folder = only_run(tmp_path)
    (*_, row) = results_of(folder)["blocks"]
    net = layerwise.load(folder)
    _, (rows, labels) = Table(TableFiles(path, test=0.25)).tensors()
    with torch.no_grad():
        scores = net(net.normalise(rows))
    logit = scores[:, 1]
    assert not scores[:, 0].any()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, labels.float())
    assert loss.item() == pytest.approx(row["test"]["loss"], rel=1e-4)
    assert 100 * ((logit > 0) == labels.bool()).double().mean().item() == pytest.approx(row["test"]["top1"])
    assert row["test"]["top1"] > 80


def test_a_convolutional_network_for_a_table_is_refused(train_py, tmp_path):
    path = write_clouds(tmp_path / "clouds.csv")
    outcome = train_py(dataset="table", **{"dataset.path": path})
    assert_refused(outcome, "model=simcnn", "dataset=table", "vector of 4", "model=mlp")
    assert not (tmp_path / "out").exists()


def test_a_table_without_a_path_and_with_a_wrong_one(train_py, tmp_path):
    assert_refused(train_py(**MLP), "dataset=table", "dataset.path=FILE.csv")
    assert_refused(train_py(**MLP, **{"dataset.path": tmp_path / "no.csv"}), f"dataset.path={tmp_path / 'no.csv'}")
    broken = write(tmp_path, IRIS.replace("3.1", "wide"))
    assert_refused(train_py(**MLP, **{"dataset.path": broken}), str(broken), "row 4", "column 'width'", "dataset.drop")
    numbered = train_py(**MLP, **{"dataset.path": broken, "dataset.label": 3})  # a number among the arguments
    assert_refused(numbered, "dataset.label=3", "Known: length")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_a_table_that_changed_after_the_run_began_is_refused_or_said(train_py, tmp_path, finished):
    path = write_clouds(tmp_path / "clouds.csv")
    arguments = {**MLP, "dataset.path": path, "name": "mine", "epochs": 1, "J": 1}
    assert train_py(**arguments).code == 0
    folder = tmp_path / "out" / "mine"
    if not finished:
        (folder / "results.json").unlink()
    text = path.read_text()
    for changed in (text + "1,2,3,4,a\n" * 5, text.replace(text.splitlines()[7], "1.5,2.5,3.5,4.5,a")):
        path.write_text(changed)
        outcome = train_py(**arguments)
        words = ("dataset=table", str(folder), "96 + 24 samples of 4, 3 classes")
        if finished:
            assert outcome.code == 0
            assert all(word in outcome.err for word in ("warning: ", *words))
        else:
            assert_refused(outcome, *words, "fresh=true", "name=", "first difference: ")
    path.write_text(text)
    assert train_py(**arguments).code == 0
    path.write_text(changed + "1,2,3,4,a\n" * 5)
    assert train_py(**arguments, fresh="true").code == 0
    assert layerwise.load(folder).spec.train_samples == 100
    assert train_py(**arguments).code == 0  # these are its data now


def test_a_change_that_float32_does_not_see_is_seen(train_py, tmp_path):
    path = write(tmp_path, "t,kind\n" + "".join(f"{1_700_000_000 + 7 * i % 60},{'uv'[i % 2]}\n" for i in range(40)))
    arguments = {**MLP, "dataset.path": path, "name": "mine", "epochs": 1, "J": 1}
    assert train_py(**arguments).code == 0
    (tmp_path / "out" / "mine" / "results.json").unlink()
    path.write_text(path.read_text().replace("1700000014", "1700000015"))
    assert_refused(train_py(**arguments), "the data are not those", "first difference: train sample 3")


def test_data_are_those_of_a_run_that_began_before_their_content_was_recorded():
    old = DatasetSpec("table", (2,), ("a", "b"), (0.5, 0.5), (1.0, 1.0), 4, 2)
    new = DatasetSpec("table", (2,), ("a", "b"), (), (), 4, 2, digest="12345678")
    assert old.agrees_with(new)
    assert new.agrees_with(old)
    assert not old.agrees_with(DatasetSpec("table", (2,), ("a", "c"), (), (), 4, 2))


def test_a_relative_and_an_absolute_path_are_the_same_run(train_py, tmp_path, monkeypatch):
    write_clouds(tmp_path / "clouds.csv")
    monkeypatch.chdir(tmp_path)
    for path in ("clouds.csv", tmp_path / "clouds.csv", "./out/../clouds.csv"):
        outcome = train_py(**MLP, epochs=1, **{"dataset.path": path})
        assert outcome.code == 0, outcome.err
        assert only_run(tmp_path)
    assert "this run is finished" in outcome.err


def test_all_options_of_tables_at_once(train_py, tmp_path):
    x, y = clouds(rows=150)
    np.save(tmp_path / "train.npy", np.column_stack([y, x]))
    np.save(tmp_path / "test.npy", np.column_stack([y, x])[:30])
    options = {"dataset.label": 0, "dataset.test_path": tmp_path / "test.npy", "dataset.folds": 5, "dataset.fold": 5}
    outcome = train_py(**MLP, **{"dataset.path": tmp_path / "train.npy"}, **options, **{"dataset.labelled": 0.5})
    assert outcome.code == 0, outcome.err
    results = results_of(only_run(tmp_path))
    assert sum(map(sum, results["classification"]["confusion_matrix"])) == 30
    assert "validation" in results["blocks"][0]


def test_a_column_that_is_empty_where_training_samples_are_left_is_named(tmp_path):
    rows = [f"{i},{i if i == 3 else ''},{'ab'[i % 2]}" for i in range(12)]
    table = Table(TableFiles(write(tmp_path, "\n".join(["x,rare,kind", *rows]) + "\n"), "kind", test=0.25))
    said = []
    for fold in range(1, 4):
        try:
            load(table, CPU, folds=3, fold=fold)
        except LayerwiseError as error:
            said.append(str(error))
    assert len(said) == 1  # where the only value is held out
    assert "column 'rare': no sample that is left to train on has a value" in said[0]
    assert "dataset.drop=[rare]" in said[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": ["length", "length"]}, "dataset.columns: names 'length' twice"),
        ({"columns": []}, "dataset.columns: names no column"),
        ({"columns": ["length"], "drop": ["length"]}, "dataset.columns: names no column"),
        ({"drop": ["species"]}, "dataset.drop: 'species' is the label"),
    ],
)
def test_choices_of_columns_that_cannot_be_meant_are_refused(tmp_path, options, said):
    with pytest.raises(LayerwiseError, match=re.escape(said)):
        read_file(write(tmp_path, IRIS), "species", **options)


def test_what_test_rows_lack_or_have_alone_is_said(tmp_path):
    path = write(tmp_path, "sex,x,kind\nmale,1,a\nfemale,2,b\nmale,3,a\nfemale,4,b\n")
    test = write(tmp_path, "x,sex,kind\n1,0,a\n,male,b\n", "test.csv")
    notes = Table(TableFiles(path, "kind", test_path=test)).spec().notes
    assert f"in {test}, column 'sex': '0' occurs in no training row and counts as no category" in notes
    assert f"in {test}, column 'x' lacks 1 values; they get the median of the training samples" in notes
