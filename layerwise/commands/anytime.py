"""Measures accuracy against mean cost when confident samples leave early (anytime prediction).

    layerwise anytime RUN                 each depth's own head decides
    layerwise anytime RUN --on ensemble   the 2^j ensemble up to each depth decides

The run needs a validation split: train it with dataset.validation=0.1. For each mean cost, the exits (up to three
depths where samples may leave) and the threshold are chosen that are most accurate on the validation split; all
figures are of the test split. They come from the class scores that the run stored, so nothing is trained or predicted
again. A cost counts the multiply-accumulates of all blocks up to the depth where a sample leaves, and of the heads
evaluated on the way. Writes anytime.json and anytime.png into the run folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.table import Table

from layerwise.analysis.anytime import Predictor, measure
from layerwise.analysis.drawing import PALETTE, pyplot, save
from layerwise.commands.arguments import Parser, at_least, modern, named
from layerwise.reporting.tables import numbers_table, show
from layerwise.runs.metrics import write_results


def main(words: Sequence[str]) -> None:
    parser = Parser("anytime", __doc__)
    parser.add_argument("run", type=named, metavar="RUN", help="run folder")
    parser.add_argument("--on", choices=[one.value for one in Predictor], default="head", help="default: head")
    parser.add_argument(
        "--points",
        type=at_least(2),
        default=20,
        metavar="N",
        help="number of mean costs (default: 20)",
    )
    parser.add_trust()
    options = parser.parse_args(modern(words, ["run"], ["on", "points"]))
    plt = pyplot()
    folder: Path = options.run
    measured = measure(folder, Predictor(options.on), options.points, options.trust)
    write_results(folder / "anytime.json", measured)
    show(fixed_table(measured))
    show(anytime_table(measured))
    save(draw(measured, plt), folder / "anytime.png")


def fixed_table(measured: dict[str, Any]) -> Table:
    """A row per depth, if all samples leave there."""
    table = numbers_table(f"{measured['name']}: one depth for all samples", "depth", "MMAC", "test %")
    for row in measured["fixed"]:
        table.add_row(str(row["block"]), f"{row['macs'] / 1e6:,.2f}", f"{row['test_top1']:.2f}")
    return table


def anytime_table(measured: dict[str, Any]) -> Table:
    """A row per policy."""
    depths = measured["depths"]
    names = ["exits", "threshold", "MMAC", "saving %", "test %", *(f"at {depth} %" for depth in depths)]
    table = numbers_table(f"{measured['name']}: samples leave when confident (on={measured['on']})", *names)
    for point in measured["points"]:
        exits = " ".join(map(str, point["exits"]))
        threshold = "–" if len(point["exits"]) == 1 or point["threshold"] > 1 else f"{point['threshold']:.4f}"
        figures = (point["saving"], point["test_top1"], *point["leaving"])
        table.add_row(exits, threshold, f"{point['macs'] / 1e6:,.2f}", *(f"{value:.2f}" for value in figures))
    last = depths[-1]
    table.caption = (
        f"mean cost of a test image; saving against depth {last} for all; at j %: images that leave at depth j"
    )
    return table


def draw(measured: dict[str, Any], plt: ModuleType) -> Any:
    """Accuracy over mean cost, and below it where samples leave."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 6.4), sharex=True, height_ratios=(3, 2))
    cost = [point["macs"] / 1e6 for point in measured["points"]]
    above.plot(cost, [p["test_top1"] for p in measured["points"]], "-o", ms=4, color=PALETTE[0], label="leave early")
    fixed = [row["macs"] / 1e6 for row in measured["fixed"]]
    exact = [row["test_top1"] for row in measured["fixed"]]
    above.plot(fixed, exact, "--s", ms=6, color=PALETTE[1], mfc="white", label="one depth for all (its number)")
    for row, x, y in zip(measured["fixed"], fixed, exact, strict=True):
        above.annotate(f"{row['block']}", (x, y), (0, -15), textcoords="offset points", color=PALETTE[1], ha="center")
    above.margins(y=0.1)  # room for the names of the depths
    above.set_ylabel("test accuracy (%)")
    predictor = "its head" if measured["on"] == "head" else "the ensemble up to it"
    above.set_title(f"{measured['name']}: a depth is left when {predictor} is confident", loc="left", fontsize=10)
    above.legend(loc="lower right")
    shares = list(zip(*(point["leaving"] for point in measured["points"]), strict=True))
    shades = [plt.get_cmap("viridis")(0.95 - 0.9 * i / (len(shares) - 1)) for i in range(len(shares))]
    below.stackplot(cost, *shares, colors=shades, labels=[f"depth {depth}" for depth in measured["depths"]])
    below.set(xlabel="mean cost per image (million multiply-accumulates)", ylabel="images that leave (%)")
    below.set(ylim=(0, 100))
    handles, labels = below.get_legend_handles_labels()
    below.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5))  # stacked as the areas are
    figure.align_ylabels()
    return figure
