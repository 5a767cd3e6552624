"""Draws figures for a paper: accuracy over depth, and separability over depth of probed runs.

    layerwise figures outputs/RUN outputs/RUN         run folders, or a folder with runs below it
    layerwise figures results/cifar10_small.json      a file that scripts/reproduce.py wrote
    layerwise figures FOLDER --output figures

accuracy_over_depth   test accuracy of the classifier at each depth and of the ensemble up to it: one line per network,
                      one panel per data set; a horizontal line for networks with one classifier (plan=joint)
separability          linear, CNN-1 and CNN-2 separability of the networks that layerwise probe has probed

Each figure is written as PDF and as PNG. Runs that differ in their seed alone share a line: their mean, with a band of
one sample standard deviation. Of an unfinished run the finished depths are shown. Files of results/ give the ensemble
at the last depth only. Needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

from layerwise.analysis import separability as probes
from layerwise.analysis.depth_curves import Network, networks_of
from layerwise.analysis.drawing import PALETTE, over_depth, pyplot, save
from layerwise.commands.arguments import Parser, named


def main(words: Sequence[str]) -> None:
    parser = Parser("figures", __doc__)
    parser.add_argument("sources", nargs="+", type=named, metavar="FOLDER", help="of runs; or a JSON file of results/")
    parser.add_argument("--output", type=named, default=Path("figures"), metavar="DIR", help="default: figures/")
    options = parser.parse_args(words)
    plt = pyplot()
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
    figure, panels = plt.subplots(len(names), 1, figsize=(5.2, 3.8 * len(names)), squeeze=False)
    for panel, name in zip(panels[:, 0], names, strict=True):
        for i, network in enumerate(network for network in networks if network.panel == name):
            draw_network(panel, i, network)
        panel.set(title=name, xlabel="depth j", ylabel="test accuracy (%)")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.plot([], [], "--", color="grey", marker="o", mfc="white", label="ensemble up to depth j")
        panel.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.subplots_adjust(hspace=0.4)
    return figure


def draw_network(panel: Any, number: int, network: Network) -> None:
    """A line with its dashed ensemble, or a horizontal one."""
    seeds = len(network.heads)
    label = network.label + (f" ({seeds} seeds)" if seeds > 1 else "")
    if network.is_end_to_end:
        accuracy = fmean(value for by_depth in network.heads for value in by_depth.values())
        panel.axhline(accuracy, ls="-.", color=PALETTE[number % len(PALETTE)], label=f"{label}, one classifier")
        return
    over_depth(panel, number, network.heads, "-", label=label)
    if network.ensembles:
        over_depth(panel, number, network.ensembles, "--", mfc="white")


def separability(networks: Sequence[Network], plt: ModuleType) -> Any:
    """As `layerwise probe` draws it, averaged over seeds."""
    named = probes.labels([network.probes[0] for network in networks])
    return probes.draw({label: n.probes for label, n in zip(named, networks, strict=True)}, plt)
