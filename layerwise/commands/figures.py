"""Draws figures for a paper: accuracy over depth, and separability over depth of probed runs.

    layerwise figures outputs/RUN outputs/RUN         run folders, or a folder with runs below it
    layerwise figures results/cifar10_small.json      a file that scripts/reproduce.py wrote
    layerwise figures FOLDER --output figures

accuracy_over_depth   test accuracy of the classifier at each depth and of the ensemble up to it: one line per network,
                      one panel per data set; a horizontal line for networks with one classifier (plan=joint)
separability          linear, CNN-1 and CNN-2 separability of the networks that layerwise probe has probed

Each figure is written as PDF and as PNG. Runs that differ in their seed alone share a line: their mean, with a band of
one sample standard deviation and a dot for each run. Of an unfinished run the finished depths are
shown. Files of results/ give the ensemble at the last depth only. Needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from layerwise.analysis import separability as probes
from layerwise.analysis.depth_curves import ByDepth, Network, networks_of
from layerwise.analysis.drawing import colour_of, over_depth, pyplot, save
from layerwise.commands.arguments import Parser, named
from layerwise.core.spread import chance, spread

COLUMN = 3.25
"""Inches: a column of a paper in two columns, and half the text of one in one column."""


def main(words: Sequence[str]) -> None:
    parser = Parser("figures", __doc__)
    parser.add_argument("sources", nargs="+", type=named, metavar="FOLDER", help="of runs; or a JSON file of results/")
    parser.add_argument("--output", type=named, default=Path("figures"), metavar="DIR", help="default: figures/")
    options = parser.parse_args(words)
    plt = pyplot()
    plt.rcParams.update({"font.size": 8, "legend.fontsize": 7})  # of a column of a paper
    networks = networks_of(options.sources)
    write(accuracy_over_depth(networks, plt), options.output, "accuracy_over_depth")
    probed = [network for network in networks if network.probes]
    if probed:
        write(separability(probed, plt), options.output, "separability")


def write(figure: Any, folder: Path, name: str) -> None:
    save(figure, folder / f"{name}.pdf", folder / f"{name}.png")


def accuracy_over_depth(networks: Sequence[Network], plt: ModuleType) -> Any:
    """A panel per data set, in each a line per network and a dashed one for its ensemble."""
    names = list(dict.fromkeys(network.panel for network in networks))
    drawn = [[network for network in networks if network.panel == name] for name in names]
    heights = [2.3 + 0.16 * (len(shown) + 1) for shown in drawn]  # with the legend below
    size = (COLUMN, sum(heights))
    figure, panels = plt.subplots(
        len(names), 1, figsize=size, height_ratios=heights, squeeze=False, layout="constrained"
    )
    for panel, name, shown in zip(panels[:, 0], names, drawn, strict=True):
        for i, network in enumerate(shown):
            draw_network(panel, i, network)
        panel.set(title=name, xlabel="depth j", ylabel=axis(shown))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.plot([], [], "--", color="grey", marker="o", mfc="white", label="ensemble up to depth j")
        panel.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.25), borderaxespad=0)
    return figure


def axis(networks: Sequence[Network]) -> str:
    """`test accuracy (%)`, with the number of test samples and what chance does to the best mean, where it is known."""
    sizes = {network.tested for network in networks}
    best = max(spread(list(values))["mean"] for network in networks for values in by_depth(network.heads))
    only = next(iter(sizes)) if len(sizes) == 1 else None
    return "test accuracy (%)" + (f"\n{chance(best, only)}" if only else "")


def by_depth(curves: Sequence[ByDepth]) -> Iterator[tuple[float, ...]]:
    """The values of all seeds at each depth."""
    depths = sorted({depth for curve in curves for depth in curve})
    return (tuple(curve[depth] for curve in curves if depth in curve) for depth in depths)


def draw_network(panel: Any, number: int, network: Network) -> None:
    """A line with its dashed ensemble, or a horizontal one."""
    seeds = len(network.heads)
    label = network.label + (f" ({seeds} seeds)" if seeds > 1 else "")
    if network.is_end_to_end:
        color, found = colour_of(number), spread([value for by_depth in network.heads for value in by_depth.values()])
        panel.axhline(found["mean"], ls="-.", color=color, label=f"{label}, one classifier")
        if found["std"]:
            panel.axhspan(found["mean"] - found["std"], found["mean"] + found["std"], color=color, alpha=0.12, lw=0)
        return
    over_depth(panel, number, network.heads, "-", label=label)
    if network.ensembles:
        over_depth(panel, number, network.ensembles, "--", mfc="white")


def separability(networks: Sequence[Network], plt: ModuleType) -> Any:
    """As `layerwise probe` draws it, averaged over seeds."""
    named = probes.labels([network.probes[0] for network in networks])
    return probes.draw({label: n.probes for label, n in zip(named, networks, strict=True)}, plt)
