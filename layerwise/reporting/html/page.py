"""report.html: one file that shows runs and opens anywhere, without network.

The plots are Vega-Lite's, drawn as SVG with ARIA roles by Vega, whose three libraries stand in the page (0.9 MB).
Plotly alone would fill the 5 MB that a report may have, and Bokeh draws on a canvas, which screen readers and
printers get nothing from. The bundle is a file of this package (`scripts/_bundle_vega.py` makes it): to make it in a
run would cost seconds and a dependency of 80 MB.

All values pass through Jinja's escaping, also those in JSON (`<` is written `\\u003c`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from layerwise.config.kinds import differs
from layerwise.core.measures import ACCURACY
from layerwise.core.spread import binomial_margin, with_spread
from layerwise.reporting.html.charts import all_charts
from layerwise.reporting.html.confusion import confusion
from layerwise.reporting.html.groups import Group, colours_beyond_the_palette, grouped, title_of
from layerwise.reporting.html.pictures import data_uri, filter_pictures
from layerwise.reporting.html.reported_run import ReportedRun
from layerwise.reporting.html.templates import template
from layerwise.reporting.html.training_charts import training_memory
from layerwise.reporting.html.vega import LEGEND, Chart
from layerwise.reporting.html.words import kind_of, magnitude, samples_of, shown, weak_depths

WARNINGS = 6
"""Sentences on weak depths at the head of a page; more would hide the rest of it."""

COLUMNS = 4
"""Groups that have a column of the configuration; of more each has a row with what differs."""

HEADLINES = 4
"""Groups whose means stand at the head of a page; those of more stand in the table."""

SHOWN_FILTERS = 64
"""Of a run; the first ones."""

DETAILED_RUNS = 8
"""Groups of whose first run matrix, images and filters are shown; with more the page would grow too large."""

_ASSETS = Path(__file__).with_name("assets")


def render(runs: Sequence[ReportedRun]) -> str:
    """The page about one or more runs."""
    several = len(runs) > 1
    groups = grouped(runs)
    views = [GroupView(group) for group in groups]
    charts = all_charts([run for group in groups for run in group.runs])
    closer = [RunView(group.number, group.first) for group in groups[:DETAILED_RUNS]]
    matrices = [view.confusion for view in closer if view.confusion is not None]
    specs = {chart.id: chart.spec for chart in (*charts, *matrices)}
    filled = template(
        "page.html.j2", magnitude=magnitude, origin=origin_of, machine=machine_of, samples=samples_of, chance=chance_of
    )
    return filled.render(
        title=title_of(groups) if several else runs[0].name,
        several=several,
        many=len(views) > COLUMNS,
        single=closer[0],
        views=views,
        detailed=closer,
        colours=colours_beyond_the_palette(groups),
        charts={chart.id: chart for chart in charts},
        specs=specs,
        settings=compare_settings(groups),
        headlines=views if len(views) <= HEADLINES else [],
        has_seeds=any(len(group.runs) > 1 for group in groups),
        measures=list(dict.fromkeys(group.measure for group in groups)),
        weak=shortened(weak_of(groups), WARNINGS),
        unnamed=len(views) > LEGEND,
        seconds=sum(run.seconds for run in runs),
        machines=list(dict.fromkeys(filter(None, map(machine_of, runs)))),
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
        """Network, data and plan in words."""
        return kind_of(self.run)

    @property
    def quality(self) -> float | None:
        """Test accuracy in %, or R²."""
        return None if self.run.final is None else self.run.final[f"test_{self.run.measure.name}"]

    @property
    def error(self) -> float | None:
        """Mean absolute error on the test samples, of real-valued targets."""
        return None if self.run.final is None else self.run.final.get("test_mae")

    @property
    def reconstruction(self) -> float | None:
        """Test error of an autoencoder's last decoder."""
        errors = [
            row["reconstruction"]["test"]["loss"] for row in self.run.rows if "test" in row.get("reconstruction", ())
        ]
        return errors[-1] if errors else None

    @property
    def ensemble(self) -> float | None:
        """Of the ensemble, where more than one depth predicts."""
        if self.run.final is None or len(self.run.scored) < 2:
            return None
        return self.run.final[f"ensemble_{self.run.measure.name}"]  # type: ignore[no-any-return]

    @property
    def parameters(self) -> int | None:
        return None if self.run.final is None else self.run.final["parameters"]

    @cached_property
    def confusion(self) -> Chart | None:
        return confusion(self.run, self.number)

    @cached_property
    def samples(self) -> list[Sample]:
        """Images that early depths miss."""
        kept = self.run.samples
        if kept is None or kept.images.shape[-1] not in (1, 3):  # earlier versions kept images of any channels
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


@dataclass(frozen=True)
class GroupView:
    """What the page shows of a group beside the plots. All figures are means over its runs."""

    group: Group

    @property
    def words(self) -> str:
        """What the filter of the table looks in, beside the table itself."""
        return " ".join(f"{RunView(self.group.number, run).what} {run.name}" for run in self.group.runs)

    def of(self, name: str) -> dict[str, Any] | None:
        """The spread of `test` or `ensemble`."""
        if name == "ensemble" and self.group.first.is_single_depth:
            return None
        return self.group.spread_of(f"{name}_{self.group.measure.name}")

    def shown(self, name: str) -> str:
        """`97.12 ± 0.31` of several runs."""
        found = self.of(name)
        return shown(None) if found is None else with_spread(found, self.group.measure.form)

    @property
    def parameters(self) -> float | None:
        found = self.group.spread_of("parameters")
        return None if found is None else found["mean"]

    @property
    def seconds(self) -> float:
        return fmean(run.seconds for run in self.group.runs)

    @property
    def memory(self) -> float | None:
        """In MiB, what training takes in the block that needs most; None where it was not measured."""
        rows = [[row for row in run.rows if "memory_mb" in row] for run in self.group.runs]
        return fmean(found) if (found := [max(map(training_memory, of_run)) for of_run in rows if of_run]) else None


def shortened(sentences: list[str], most: int) -> list[str]:
    """The first sentences, and how many more there are."""
    more = len(sentences) - most
    return [*sentences[:most], f"and {more} more like these"] if more > 0 else sentences


def weak_of(groups: Sequence[Group]) -> list[str]:
    """Sentences on depths that lost what an earlier one knew; of several runs each after the run's label."""
    runs = [run for group in groups for run in group.runs]
    return [f"{run.label}: {words}" if len(runs) > 1 else words for run in runs for words in weak_depths(run)]


def chance_of(run: ReportedRun, quality: float | None) -> str:
    """`360 images, 95 % interval ±1.7` of an accuracy, and of R² the samples alone."""
    samples = f"{run.tested:,} {samples_of(run)}"
    if quality is None or run.measure is not ACCURACY:
        return samples
    return f"{samples}, 95 % interval ±{binomial_margin(quality, run.tested):.2g}"


def machine_of(run: ReportedRun) -> str:
    """What a run was computed on, as far as it is known."""
    found = run.results.get("hardware", {})
    cores = f"{found['cores']} cores" if found.get("cores") else None
    return ", ".join(filter(None, (found.get("gpu"), found.get("cpu"), found.get("instructions"), cores)))


def origin_of(run: ReportedRun) -> dict[str, Any]:
    """Hardware, versions and commit, by their names."""
    results = run.results
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
    """A key of the configuration and its value in each group."""

    key: str
    values: list[str]
    differs: bool


def compare_settings(groups: Sequence[Group]) -> list[Setting]:
    """A row for each key; of the runs of a group all values that differ, such as the seeds."""
    told = [
        {key: ", ".join(dict.fromkeys(shown(run.settings[key]) for run in group.runs)) for key in group.first.settings}
        for group in groups
    ]
    keys = dict.fromkeys(key for values in told for key in values)
    return [Setting(key, [values.get(key, shown(None)) for values in told], differs(key, told)) for key in keys]


def _asset(name: str) -> Markup:
    """A file of ours, which goes into the page as it is."""
    return Markup((_ASSETS / name).read_text(encoding="utf-8"))
