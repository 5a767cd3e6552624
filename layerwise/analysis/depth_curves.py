"""Accuracies over depth of trained networks, from run folders or files of `results/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.analysis.collecting import run_folders
from layerwise.analysis.probing import PROBES
from layerwise.config.identity import all_but_the_seed
from layerwise.config.parse import from_yaml
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.runs.run_files import CONFIG, RESULTS, SPEC, read_object, read_results, read_spec

ByDepth = dict[int, float]
"""Test accuracy in % by depth."""


@dataclass
class Network:
    """A network trained with one or several seeds.

    Attributes:
        name: name of the network or of its first run.
        panel: title of its panel, such as the data set.
        heads: for each seed, accuracies of the classifier at each depth.
        ensembles: for each seed, accuracies of the ensemble up to each depth, or of the last depth only.
        tested: samples of the test set, if known.
        probes: for each probed seed, the content of its probes.json.
    """

    name: str
    label: str
    panel: str
    tested: int | None = None
    heads: list[ByDepth] = field(default_factory=list)
    ensembles: list[ByDepth] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_end_to_end(self) -> bool:
        """Whether it has a single classifier, so that there is no curve."""
        return all(len(by_depth) == 1 for by_depth in self.heads)


def networks_of(sources: Sequence[Path]) -> list[Network]:
    """All networks with accuracies in some sources. Runs that differ in the seed alone are one network.

    Args:
        sources: run folders, folders with runs below them, or JSON files that `scripts/reproduce.py` wrote.

    Raises:
        LayerwiseError: a source is none of these, or holds no finished block.
    """
    networks: dict[str, Network] = {}
    for source in sources:
        if source.is_dir():
            for folder in run_folders(source):
                add_run(networks, folder)
        else:
            networks |= {f"{source} {network.name}": network for network in read_collection(source)}
    found = [network for network in networks.values() if network.heads]
    if not found:
        names = ", ".join(map(str, sources))
        raise LayerwiseError(f"{names}: no finished block found. Give run folders or results/*.json.")
    for network in found:
        if sum(other.label == network.label and other.panel == network.panel for other in found) > 1:
            network.label = f"{network.label}, {network.name}"
    return found


def add_run(networks: dict[str, Network], folder: Path) -> None:
    """Adds a run to the network whose runs differ from it in the seed alone."""
    results = read_results(folder / RESULTS)
    if results is None:
        return
    config = from_yaml(folder / CONFIG)
    words = [] if config.model.kind == "simcnn" else [config.model.label]
    width = getattr(config.model, "width", None)
    words += [f"k = {results['k']}"] + ([f"M = {width}"] if width else [])
    words += {"greedy": [], "joint": ["end to end"]}.get(results["plan"], [results["plan"]])
    network = networks.setdefault(
        all_but_the_seed(config),
        Network(results["name"], ", ".join(words), results["dataset"], tested_samples(folder, config)),
    )
    scored = [row for row in results["blocks"] if "top1" in row.get("test", {})]
    if scored:
        network.heads.append({row["block"]: row["test"]["top1"] for row in scored})
        network.ensembles.append({row["block"]: row["ensemble"]["top1"] for row in scored})
    if (folder / PROBES).exists():
        network.probes.append(read_json(folder / PROBES))


def tested_samples(folder: Path, config: Config) -> int | None:
    """Returns the number of samples that a run is tested on."""
    spec = read_spec(folder / SPEC)
    return None if spec is None else min(config.dataset.limit_test or spec.test_samples, spec.test_samples)


def read_collection(path: Path) -> Iterator[Network]:
    """The completed rows of a file that `scripts/reproduce.py` wrote; it has ensembles of the last depth only.

    Raises:
        LayerwiseError: it is not such a file.
    """
    content = read_json(path)
    if not {"set", "rows"} <= set(content):
        raise LayerwiseError(f"{path}: not written by scripts/reproduce.py. Give such a file, or run folders.")
    for row in content["rows"]:
        if not row.get("blocks"):
            continue
        network = Network(row["experiment"], row["experiment"], content["set"], probes=row.get("probes", []))
        network.heads = [dict(enumerate(accuracies, 1)) for accuracies in row["blocks"]]
        for by_depth, last in zip(network.heads, row["ours"].get("ensemble_top1", {}).get("values", ()), strict=False):
            network.ensembles.append({max(by_depth): last})
        yield network


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
        LayerwiseError: it is absent or damaged.
    """
    content = read_object(path, "Give a file that is whole.")
    if content is None:
        raise LayerwiseError(f"{path}: no such file or folder.")
    return content
