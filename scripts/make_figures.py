"""Figures for a paper: accuracy over depth, and separability over depth where probes were trained.

    python scripts/make_figures.py outputs/RUN outputs/RUN         run folders, or a folder with runs below it
    python scripts/make_figures.py results/cifar10_small.json      what scripts/reproduce.py wrote
    python scripts/make_figures.py FOLDER --output figures

accuracy_over_depth   test accuracy of the classifier at each depth and of the ensemble up to it, a line per network
                      and a panel per data set; of a network with one classifier (plan=joint) a horizontal line
separability          linear, CNN-1 and CNN-2 separability, of the networks that scripts/probe.py has probed

Each is written as PDF and as PNG. Runs that differ in their seed alone are one line: their mean, with a band of one
sample standard deviation. Of an unfinished run the finished depths are shown. Files of results/ give the ensemble at
the last depth only. Needs matplotlib: pip install -e ".[report]".
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import _separability
from _depth_curves import Network, networks_of
from _figure import PALETTE, over_depth, pyplot, save

from layerwise.commands.errors import reported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="FOLDER", help="of runs; or a JSON file of results/")
    parser.add_argument("--output", type=Path, default=Path("figures"), metavar="DIR", help="default: figures/")
    options = parser.parse_args()
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
    """As `scripts/probe.py` draws it, averaged over seeds."""
    named = _separability.labels([network.probes[0] for network in networks])
    return _separability.draw({label: n.probes for label, n in zip(named, networks, strict=True)}, plt)


if __name__ == "__main__":
    with reported():
        main()
