"""report.html: one file that shows runs and opens anywhere, without network.

The plots are Vega-Lite's, drawn as SVG with ARIA roles by Vega, whose three libraries stand in the page (0.9 MB).
Plotly alone would fill the 5 MB that a report may have, and Bokeh draws on a canvas, which screen readers and
printers get nothing from. The bundle is a file of this package (`scripts/_bundle_vega.py` makes it): to make it in a
run would cost seconds and a dependency of 80 MB.

All values pass through Jinja's escaping, also those in JSON (`<` is written `\\u003c`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from layerwise.reporting.html.charts import all_charts
from layerwise.reporting.html.pictures import data_uri, filter_pictures
from layerwise.reporting.html.quality_charts import confusion
from layerwise.reporting.html.reported_run import ReportedRun, labelled
from layerwise.reporting.html.vega import Chart

SHOWN_FILTERS = 64
"""Of a run; the first ones."""

DETAILED_RUNS = 8
"""Runs whose confusion matrix, images and filters are shown; of more the page would grow too large."""

_ASSETS = Path(__file__).with_name("assets")


def render(runs: Sequence[ReportedRun]) -> str:
    """The page about one or more runs."""
    runs = labelled(runs)
    views = [RunView(number, run) for number, run in enumerate(runs, 1)]
    charts = all_charts(runs)
    matrices = [view.confusion for view in views[:DETAILED_RUNS] if view.confusion is not None]
    specs = {chart.id: chart.spec for chart in (*charts, *matrices)}
    several = len(views) > 1
    environment = Environment(
        loader=PackageLoader("layerwise.reporting.html", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "duration": duration}
    return environment.get_template("page.html.j2").render(
        title=f"{len(views)} runs compared" if several else runs[0].name,
        several=several,
        views=views,
        detailed=views[:DETAILED_RUNS],
        charts={chart.id: chart for chart in charts},
        specs=specs,
        settings=compare_settings(runs),
        best=max((view for view in views if view.quality is not None), key=_quality, default=None),
        measures=list(dict.fromkeys(run.measure for run in runs)),
        seconds=sum(run.seconds for run in runs),
        machines=list(dict.fromkeys(view.machine for view in views if view.machine)),
        style=_asset("page.css"),
        script=_asset("page.js"),
        vega=_asset("vega.min.js"),
    )


@dataclass(frozen=True)
class RunView:
    """What the page shows of one run beside the plots.

    Attributes:
        number: of the run, from 1.
    """

    number: int
    run: ReportedRun

    @property
    def what(self) -> str:
        """`SimCNN`-like words: network, data, plan and the paper's symbols."""
        config = self.run.config
        return f"{config.model.name} on {self.run.data}, {config.plan.name.value}, k = {config.k}, J = {config.J}"

    @property
    def machine(self) -> str:
        """What it ran on, as far as it is known."""
        found = self.run.results.get("hardware", {})
        cores = f"{found['cores']} cores" if found.get("cores") else None
        return ", ".join(filter(None, (found.get("gpu"), found.get("cpu"), cores)))

    @property
    def quality(self) -> float | None:
        """Test accuracy in %, or R²."""
        return None if self.run.final is None else self.run.final[f"test_{self.run.measure.name}"]

    @property
    def error(self) -> float | None:
        """Mean absolute error on the test samples, of real-valued targets."""
        return None if self.run.final is None else self.run.final.get("test_mae")

    @property
    def ensemble(self) -> float | None:
        """Of the ensemble, where more than one depth predicts."""
        if self.run.final is None or len(self.run.scored) < 2:
            return None
        return self.run.final[f"ensemble_{self.run.measure.name}"]  # type: ignore[no-any-return]

    @property
    def parameters(self) -> int | None:
        return None if self.run.final is None else self.run.final["parameters"]

    @property
    def peak_memory(self) -> float | None:
        """In MB."""
        return max((row["peak_memory_mb"] for row in self.run.rows if row.get("peak_memory_mb")), default=None)

    @cached_property
    def confusion(self) -> Chart | None:
        return confusion(self.run, self.number)

    @cached_property
    def samples(self) -> list[Sample]:
        """Images that early depths miss."""
        kept = self.run.samples
        if kept is None:
            return []
        classes = self.run.spec.classes
        return [
            Sample(
                picture=data_uri(image),
                number=int(kept.numbers[i]),
                label=classes[int(kept.labels[i])],
                answers=[
                    Answer(depth, classes[int(c)], 100 * float(p), int(c) == int(kept.labels[i]))
                    for depth, c, p in zip(kept.depths, kept.predicted[:, i], kept.confidence[:, i], strict=True)
                ],
            )
            for i, image in enumerate(kept.images)
        ]

    @cached_property
    def filters(self) -> list[str]:
        """Pictures of the first block's filters."""
        anatomy = self.run.anatomy
        if anatomy is None or anatomy.filters is None:
            return []
        return [data_uri(picture) for picture in filter_pictures(anatomy.filters[:SHOWN_FILTERS])]

    @property
    def filter_count(self) -> int:
        anatomy = self.run.anatomy
        return 0 if anatomy is None or anatomy.filters is None else len(anatomy.filters)

    @property
    def origin(self) -> dict[str, Any]:
        """Hardware, versions and commit, by their names."""
        results = self.run.results
        facts = {"precision": results.get("precision"), "commit": results.get("git_commit")}
        found = facts | results.get("hardware", {}) | results.get("versions", {})
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Answer:
    """What a depth says of an image; confidence in per cent."""

    depth: int
    predicted: str
    confidence: float
    is_right: bool


@dataclass(frozen=True)
class Sample:
    """A test image, its class, and the answers by depth."""

    picture: str
    number: int
    label: str
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Setting:
    """A key of the configuration and its value in each run."""

    key: str
    values: list[str]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def compare_settings(runs: Sequence[ReportedRun]) -> list[Setting]:
    """A row for each key that any run has."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    return [Setting(key, [shown(run.settings.get(key)) for run in runs]) for key in keys]


def shown(value: Any) -> str:
    """A value for reading: `–` for None, four significant digits for small fractions, commas in large numbers, and `~`
    for the home folder.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace(f"{Path.home()}/", "~/")  # a report is passed on


def duration(seconds: float) -> str:
    """`3.2 s`, or `0:04:10` of more than a minute."""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def _quality(view: RunView) -> float:
    return -math.inf if view.quality is None else view.quality


def _asset(name: str) -> Markup:
    """A file of ours, which goes into the page as it is."""
    return Markup((_ASSETS / name).read_text(encoding="utf-8"))
