"""Trains tiny runs of every kind and takes pictures of their reports: light, dark, on a phone and on paper.

    python scripts/report_scenes.py                              all scenes into build/scenes; some minutes on a core
    python scripts/report_scenes.py FOLDER --only seeds table    some of them

Of each scene there are NAME_light.png, NAME_dark.png, NAME_phone.png, NAME_paper.pdf and NAME.html. Runs that are
finished are not trained again. Needs playwright (`pip install playwright`) and Chromium (on Debian
`apt install chromium`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from screenshot_report import open_report
from sklearn.datasets import load_diabetes, load_wine

from layerwise.commands.errors import reported
from layerwise.commands.in_process import run_here
from layerwise.commands.report import main as report

SCENES_FOLDER = Path(__file__).resolve().parents[1] / "build" / "scenes"

DESKTOP, PHONE = (1100, 900), (390, 844)
"""Pixels of a window."""

MARGINS = dict.fromkeys(("top", "right", "bottom", "left"), "15mm")

DIGITS = [
    *("dataset=digits", "k=1", "J=3", "epochs=3", "batch_size=32", "model.width=8", "model.head_width=8"),
    *("model.downsample=[2]", "dataset.limit_test=200", "optimizer.lr=0.05", "model.batch_norm=true"),
]
PERCEPTRON = [
    "model=mlp",
    "k=1",
    "model.widths=[16,8]",
    "epochs=4",
    "batch_size=16",
    "optimizer=adam",
    "optimizer.lr=0.01",
]
LONG = "a_long_name_of_a_run_without_a_single_space_that_{}_and_goes_on"
SCALES = product(("0.2", "0.1", "0.05", "0.02", "0.01"), (2, 4, 6, 8), ("greedy", "joint"))

SCENES: dict[str, list[list[str]]] = {
    "demo": [["experiment=demo_digits", "epochs=2"]],
    "blobs": [["dataset=blobs", *PERCEPTRON]],
    "four": [[*DIGITS, f"plan={plan}"] for plan in ("greedy", "joint", "simultaneous")] + [[*DIGITS, "k=2"]],
    "seeds": [
        [*DIGITS, *words, f"seed={seed}"] for words in (["k=1"], ["k=3"], ["k=3", "plan=joint"]) for seed in (1, 2, 3)
    ],
    "forty": [
        [*DIGITS, "epochs=1", f"optimizer.lr={lr}", f"model.width={width}", f"plan={plan}"]
        for lr, width, plan in SCALES
    ],
    "autoencoder": [
        ["dataset=digits", "plan=autoencoder", "dataset.standardise=false", *PERCEPTRON, "model.widths=[32,16]"]
    ],
    "table": [["dataset=table", "dataset.path={folder}/wine.csv", *PERCEPTRON]],
    "regression": [
        ["dataset=table", "dataset.path={folder}/diabetes.csv", "dataset.task=regression", *PERCEPTRON, f"seed={seed}"]
        for seed in (1, 2)
    ],
    "quantity": [
        ["dataset=table", "dataset.path={folder}/diabetes.csv", "dataset.task=regression", *PERCEPTRON, "seed=1"]
    ],
    "timm": [
        [*("dataset=digits", "model=timm", "model.name=test_vit", "model.options.patch_size=2"), *words]
        for words in (["k=2", "epochs=2", "batch_size=32", "optimizer=adam", "optimizer.lr=1e-3"],)
    ],
    "pruned": [[*DIGITS, "k=2", "plan.prune_to=4", "plan.prune_epochs=1"]],
    "finetuned": [[*DIGITS, "plan.finetune.epochs=2"]],
    "depths": [[*DIGITS, "J=20", "dataset.limit=600"]],
    "names": [
        [*DIGITS, f"seed={seed}", f"name={LONG.format(kind)}_{seed}", lr]
        for kind, lr in (("learns_slowly", "optimizer.lr=0.001"), ("learns_quickly", "optimizer.lr=0.1"))
        for seed in (1, 2)
    ],
    "classes": [["dataset=table", "dataset.path={folder}/classes.csv", *PERCEPTRON, "k=1"]],
}
"""Commands of each scene; `{folder}` is the folder of the tables."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SCENES_FOLDER, metavar="FOLDER")
    parser.add_argument(
        "--only", nargs="+", choices=SCENES, default=list(SCENES), metavar="SCENE", help=", ".join(SCENES)
    )
    options = parser.parse_args()
    write_tables(options.folder)
    for name in options.only:
        photograph(report_of(name, options.folder))


def write_tables(folder: Path) -> None:
    """Writes the tables of the scenes: classes, a quantity, and 50 classes of points on a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, load in (("wine", load_wine), ("diabetes", load_diabetes)):
        load(as_frame=True).frame.to_csv(folder / f"{name}.csv", index=False)
    rows = [f"{number + (number * i) % 7 / 3},{i % 3},class {number}" for number in range(50) for i in range(20)]
    (folder / "classes.csv").write_text("\n".join(["place,shade,class", *rows]) + "\n")


def report_of(name: str, folder: Path) -> Path:
    """Trains the runs of a scene and writes their report."""
    words = [[word.format(folder=folder) for word in command] for command in SCENES[name]]
    runs = [run_here([*run, f"output_dir={folder / 'runs' / name}"])[1] for run in words]
    report([*map(str, runs), "--output", str(folder / f"{name}.html")])
    return folder / f"{name}.html"


def photograph(report: Path) -> None:
    """Writes the pictures of a report beside it."""
    views: Sequence[tuple[str, str, tuple[int, int]]] = (
        ("light", "light", DESKTOP),
        ("dark", "dark", DESKTOP),
        ("phone", "light", PHONE),
    )
    for view, theme, size in views:
        with open_report(report, theme, *size) as page:
            page.screenshot(path=report.with_name(f"{report.stem}_{view}.png"), full_page=True)
            if view == "light":
                page.pdf(path=report.with_name(f"{report.stem}_paper.pdf"), format="A4", margin=MARGINS)


if __name__ == "__main__":
    with reported():
        main()
