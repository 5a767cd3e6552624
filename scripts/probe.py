"""How separable the classes are at each depth of trained runs (the paper's separability).

    python scripts/probe.py run=FOLDER
    python scripts/probe.py run=[FOLDER,FOLDER,FOLDER] out=separability.png

run     one run folder or several; of an unfinished run the finished depths are probed
epochs  of the CNN probes (default 10), with the optimiser settings of the run
width   of their convolutions (default: the run's model.head_width, else 128)
limit   training images of the logistic regression (default: all; it is the slow part on a large data set)
seed    of the probes (default 0)
device  auto, cpu, cuda, cuda:N (default auto)
out     the figure (default: probes.png in the first run folder)

Linear separability: one-vs-rest logistic regression on features averaged to 2×2 per channel.
CNN-1 and CNN-2 separability: classifiers with one and two hidden convolutions on frozen features.
Test accuracies go into probes.json of each run folder depth by depth, and are taken from there when
the same command is given again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _figure import pyplot, save
from _options import at_least, read_options
from _separability import PROBES, draw, labels
from omegaconf import MISSING
from rich.table import Table

from layerwise.analysis.probing import probe_run
from layerwise.commands.errors import reported
from layerwise.reporting.tables import show


@dataclass
class Options:
    run: Any = MISSING  # a folder or a list of folders
    epochs: int = 10
    width: int | None = None
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    out: str | None = None


def main() -> None:
    options = read_options(Options, str(__doc__))
    at_least(1, epochs=options.epochs, width=options.width, limit=options.limit)
    plt = pyplot()
    folders = [Path(str(name)) for name in (options.run if isinstance(options.run, list) else [options.run])]
    runs = [
        probe_run(
            folder,
            epochs=options.epochs,
            width=options.width,
            images=options.limit,
            seed=options.seed,
            device=options.device,
            note=lambda text: print(text, file=sys.stderr),
        )
        for folder in folders
    ]
    named = labels(runs)
    for run, label in zip(runs, named, strict=True):
        show(table(run, label))
    figure = draw({label: [run] for run, label in zip(runs, named, strict=True)}, plt)
    save(figure, Path(options.out) if options.out else folders[0] / "probes.png")


def table(run: dict[str, Any], label: str) -> Table:
    """A row per depth; depths that are not finished are empty."""
    settings = run["settings"]
    made = Table(title=f"{run['name']} ({label}): test accuracy of probes", title_justify="left", min_width=90)
    for name in ("depth", "linear %", "CNN-1 %", "CNN-2 %"):
        made.add_column(name, justify="right")
    for row in run["depths"]:
        made.add_row(str(row["block"]), *(f"{row[name]:.2f}" for name in PROBES))
    for depth in range(len(run["depths"]) + 1, run["planned"] + 1):
        made.add_row(str(depth), *(["not finished"] * len(PROBES)))
    images = "all" if settings["limit"] is None else settings["limit"]
    made.caption = (
        f"CNN probes: {settings['epochs']} epochs, width {settings['width']}; logistic regression: {images} images"
    )
    return made


if __name__ == "__main__":
    with reported():
        main()
