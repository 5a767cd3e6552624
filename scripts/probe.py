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
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from _figure import MARKERS, PALETTE, pyplot, save
from _options import at_least, read_options
from omegaconf import MISSING
from rich.table import Table

from layerwise.cli import reported
from layerwise.probing import probe_run
from layerwise.report.tables import show

PANELS = {"linear": "linear separability", "cnn1": "CNN-1 separability", "cnn2": "CNN-2 separability"}


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
    for run, label in zip(runs, labels(runs), strict=True):
        show(table(run, label))
    save(draw(runs, plt), Path(options.out) if options.out else folders[0] / "probes.png")


def labels(runs: list[dict[str, Any]]) -> list[str]:
    """`k = 3, M = 128`, with what tells runs apart that share these."""
    plain = [f"k = {run['k']}" + (f", M = {run['width']}" if run["width"] else "") for run in runs]
    often = Counter(plain)
    return [f"{text}, {run['name']}" if often[text] > 1 else text for text, run in zip(plain, runs, strict=True)]


def table(run: dict[str, Any], label: str) -> Table:
    """A row per depth; depths that are not finished are empty."""
    settings = run["settings"]
    made = Table(title=f"{run['name']} ({label}): test accuracy of probes", title_justify="left", min_width=90)
    for name in ("depth", "linear %", "CNN-1 %", "CNN-2 %"):
        made.add_column(name, justify="right")
    for row in run["depths"]:
        made.add_row(str(row["block"]), *(f"{row[name]:.2f}" for name in PANELS))
    for depth in range(len(run["depths"]) + 1, run["planned"] + 1):
        made.add_row(str(depth), *(["not finished"] * len(PANELS)))
    images = "all" if settings["limit"] is None else settings["limit"]
    made.caption = (
        f"CNN probes: {settings['epochs']} epochs, width {settings['width']}; logistic regression: {images} images"
    )
    return made


def draw(runs: list[dict[str, Any]], plt: ModuleType) -> Any:
    """Separability over depth: a panel per probe, a line per run."""
    figure, panels = plt.subplots(1, len(PANELS), figsize=(10, 3.6), sharex=True, sharey=True)
    for panel, (probe, title) in zip(panels, PANELS.items(), strict=True):
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
            depths = [row["block"] for row in run["depths"]]
            color, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            panel.plot(depths, [row[probe] for row in run["depths"]], f"-{marker}", color=color, label=label)
        panel.set(title=title, xlabel="depth j")
        panel.set_xticks(range(1, max(run["planned"] for run in runs) + 1))
    panels[0].set_ylabel("test accuracy (%)")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    with reported():
        main()
