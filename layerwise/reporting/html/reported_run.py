"""What a run folder says of its run, as a report shows it. The data set is not needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.config.build import build_agenda, build_costs, build_network
from layerwise.config.identity import all_but_the_seed, as_plain
from layerwise.config.parse import from_yaml
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.core.measures import ACCURACY, Measure, measure_of
from layerwise.data.dataset import DatasetSpec
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import BlockCost
from layerwise.reporting.command import command_of
from layerwise.reporting.html.paper_figures import experiment_of
from layerwise.reporting.samples import Samples, read_samples
from layerwise.runs.depth_search import run_config
from layerwise.runs.loading import load
from layerwise.runs.metrics import read_lines
from layerwise.runs.origin import origin_of
from layerwise.runs.run_files import AGAIN, CONFIG, METRICS, RESULTS, SPEC, read_object, read_results, read_spec

ANYTIME = "anytime.json"

RGB, GREY = 3, 1
"""Channels of what can be shown as a picture."""


@dataclass(frozen=True)
class Anatomy:
    """The network of a run.

    Attributes:
        costs: of block j at position j−1, for all that the run may train, also beyond the depth that it chooses.
        find_network: reads the trained network; only of a few runs it is needed.
        spec: of its data.
    """

    costs: Sequence[BlockCost]
    find_network: Callable[[], BlockNet]
    spec: DatasetSpec

    @cached_property
    def filters(self) -> Tensor | None:
        """[M, C, h, w] weights of the first block, if it convolves an image of 1 or 3 channels.

        None also where no block is finished, or a checkpoint cannot be read.
        """
        try:
            return first_filters(self.find_network(), self.spec)
        except LayerwiseError:
            return None


Costs = dict[str, Sequence[BlockCost]]
"""Costs of networks, by what they follow from."""


@dataclass(frozen=True)
class ReportedRun:
    """One run.

    Attributes:
        name: of the run, as its results give it; of one without results that of its folder.
        label: short, and different for each run of a report.
        group: label of the runs that differ from it in the seed alone.
        results: results.json; its lists are empty where no stage is finished.
        anatomy: None of a search for the depth that is not finished, and of a network that needs code of another
            package in a folder that is not trusted.
        samples: test images, if some were kept.
        anytime: anytime.json, if `scripts/anytime.py` was run.
    """

    name: str
    label: str
    group: str
    config: Config
    command: str
    results: dict[str, Any]
    metrics: list[dict[str, Any]]
    spec: DatasetSpec
    anatomy: Anatomy | None
    samples: Samples | None
    anytime: dict[str, Any] | None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row per depth."""
        return list(self.results["blocks"])

    @property
    def scored(self) -> list[dict[str, Any]]:
        """The rows of depths that predict."""
        return [row for row in self.rows if "test" in row]

    @property
    def final(self) -> dict[str, Any] | None:
        """The result, if there is one yet."""
        return self.results["final"]  # type: ignore[no-any-return]

    @property
    def measure(self) -> Measure:
        """What its depths are compared by."""
        return measure_of(self.final or (), "test_") or ACCURACY

    @property
    def is_single_depth(self) -> bool:
        """Whether it has one head, at the end, as end-to-end training has."""
        return len(self.scored) == 1

    @property
    def seconds(self) -> float:
        """That training and evaluating took."""
        return float(self.results["seconds"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted key."""
        return flat(as_plain(self.config))

    @property
    def data(self) -> str:
        """What the data set is called: of a table or a folder its own name."""
        return self.spec.title or self.spec.name

    @property
    def tested(self) -> int:
        """Samples of the test set."""
        return min(self.config.dataset.limit_test or self.spec.test_samples, self.spec.test_samples)

    @cached_property
    def paper(self) -> str | None:
        """The paper's experiment with such a network."""
        return experiment_of(self.config)


def read_run(
    folder: Path, network: BlockNet | None = None, trust: bool = False, known: Costs | None = None
) -> ReportedRun:
    """Reads a run folder, whatever state its run is in.

    Args:
        network: of the run, if it is at hand; else its checkpoints are read.
        trust: see `runs.loading.load`.
        known: costs of other runs, to which this one's are added: to find them takes the most time.

    Raises:
        LayerwiseError: no run folder, or a file of it cannot be read.
    """
    config = from_yaml(folder / CONFIG)
    spec, origin = read_spec(folder / SPEC), origin_of(folder)
    if spec is None:
        raise LayerwiseError(f"{folder / SPEC}: there is no such file. {AGAIN}")
    nothing: dict[str, Any] = {"status": "not begun to report", "blocks": [], "stages": [], "final": None}
    results = {**nothing, "name": folder.resolve().name, "seconds": 0.0, **(read_results(folder / RESULTS) or {})}
    origin.check(folder / RESULTS, results.get("origin"))
    metrics = read_lines(folder / METRICS, origin)
    anytime = read_object(folder / ANYTIME, "Run `layerwise anytime` again: it writes the file anew.")
    return ReportedRun(
        name=str(results["name"]),
        label=str(results["name"]),
        group=str(results["name"]),
        config=config,
        command=command_of(folder),
        results=results,
        metrics=metrics,
        spec=spec,
        anatomy=_anatomy(folder, spec, network, trust, {} if known is None else known),
        samples=read_samples(folder),
        anytime=anytime,
    )


def first_filters(network: BlockNet, spec: DatasetSpec) -> Tensor | None:
    """[M, C, h, w] weights of the first block, if it convolves an image of 1 or 3 channels."""
    first = next((m for m in network.blocks[0].modules() if isinstance(m, nn.Conv2d)), None)
    visible = first is not None and spec.has_images and first.in_channels == spec.shape[0] in (GREY, RGB)
    return first.weight.detach().float().cpu() if first is not None and visible else None


def _anatomy(folder: Path, spec: DatasetSpec, network: BlockNet | None, trust: bool, known: Costs) -> Anatomy | None:
    try:
        config = run_config(folder, trust)
        same = f"{all_but_the_seed(config)} {spec}"
        if same not in known:
            with torch.device("meta"):  # costs need no weights
                whole = build_network(config, spec, build_agenda(config).stages())
            known[same] = build_costs(config, whole, spec, torch.float32)
    except LayerwiseError:
        return None
    return Anatomy(known[same], lambda: network or load(folder, trust=trust), spec)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, by dotted key."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
