"""Measures how separable the classes are at each depth of trained runs (the paper's separability).

    layerwise probe RUN
    layerwise probe RUN RUN RUN --out separability.png

Linear separability: one-vs-rest logistic regression on features averaged to 2×2 per channel.
CNN-1 and CNN-2 separability: classifiers with one and two hidden convolutions on frozen features, trained with the
optimiser settings of the run, or with another learning rate (--lr). Of an unfinished run the finished depths are
probed. Test accuracies are saved depth by depth in probes.json of each run folder; the same command reads them from
there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from layerwise.analysis.drawing import pyplot, save
from layerwise.analysis.probing import probe_run
from layerwise.analysis.separability import PROBES, draw, labels
from layerwise.commands.arguments import Parser, above, at_least, modern, named
from layerwise.reporting.tables import numbers_table, show


def parser() -> Parser:
    made = Parser("probe", __doc__)
    made.add_argument("runs", nargs="+", type=named, metavar="RUN", help="run folder")
    made.add_argument("--epochs", type=at_least(1), default=10, metavar="N", help="of the CNN probes (default: 10)")
    made.add_argument(
        "--width", type=at_least(1), metavar="N", help="of their convolutions (default: model.head_width, else 128)"
    )
    made.add_argument(
        "--limit", type=at_least(1), metavar="N", help="training images of the slow logistic regression (default: all)"
    )
    made.add_argument(
        "--lr", type=above(0), metavar="X", help="learning rate of the CNN probes (default: optimizer.lr of the run)"
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the probes (default: 0)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    made.add_argument("--out", type=named, metavar="FILE", help="the figure (default: probes.png in the first run)")
    made.add_trust()
    return made


def main(words: Sequence[str]) -> None:
    options = parser().parse_args(modern(words, ["run"], ["epochs", "width", "limit", "lr", "seed", "device", "out"]))
    plt = pyplot()
    runs = [
        probe_run(
            folder,
            epochs=options.epochs,
            width=options.width,
            images=options.limit,
            seed=options.seed,
            device=options.device,
            note=lambda text: print(text, file=sys.stderr),
            trust=options.trust,
            lr=options.lr,
        )
        for folder in options.runs
    ]
    named = labels(runs)
    for run, label in zip(runs, named, strict=True):
        show(table(run, label))
    figure = draw({label: [run] for run, label in zip(runs, named, strict=True)}, plt)
    save(figure, options.out or options.runs[0] / "probes.png")


def table(run: dict[str, Any], label: str) -> Table:
    """A row per depth; depths that are not finished are empty."""
    settings = run["settings"]
    headings = ("depth", "linear %", "CNN-1 %", "CNN-2 %")
    made = numbers_table(f"{run['name']} ({label}): test accuracy of probes", *headings, min_width=90)
    for row in run["depths"]:
        made.add_row(str(row["block"]), *(f"{row[name]:.2f}" for name in PROBES))
    for depth in range(len(run["depths"]) + 1, run["planned"] + 1):
        made.add_row(str(depth), *(["not finished"] * len(PROBES)))
    images = "all" if settings["limit"] is None else settings["limit"]
    made.caption = (
        f"CNN probes: {settings['epochs']} epochs, width {settings['width']}"
        + (f", learning rate {settings['lr']:g}" if "lr" in settings else "")
        + f"; logistic regression: {images} images"
    )
    return made
