"""Runs that differ in the seed alone are one group: one row, one line, one colour of a report."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from layerwise.config.identity import all_but_the_seed
from layerwise.core.colours import further_colour
from layerwise.core.measures import Measure
from layerwise.core.spread import spread
from layerwise.reporting.html.reported_run import ReportedRun
from layerwise.reporting.html.words import data_words, listed, network_words, plan_words

PALETTE = 8
"""Colours that the page's style chooses for light and for dark; further ones are made."""

LABELLED_BY = (
    "dataset.name",
    "model.name",
    "plan.name",
    "k",
    "J",
    "model.width",
    "plan.prune_to",
    "optimizer.lr",
)
"""Keys that tell groups apart, the most telling first; any other key that differs comes after them."""

LONG, SEPARATORS = 40, "-_ .,="
"""Letters of a name that plots have place for, and what ends its words."""

MOST_KEYS = 5
"""In a label; groups that need more are called by their names."""


@dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Attributes:
        number: of the group, from 1; it decides the colour.
    """

    number: int
    label: str
    runs: tuple[ReportedRun, ...]

    @property
    def first(self) -> ReportedRun:
        return self.runs[0]

    @property
    def measure(self) -> Measure:
        return self.first.measure

    @property
    def status(self) -> str:
        """`completed`, or `2 completed, 1 running` of several runs."""
        counts = Counter(run.results["status"] for run in self.runs)
        return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {status}" for status, n in counts.items())

    @cached_property
    def done(self) -> list[ReportedRun]:
        """The runs that the group's figures are of: the completed ones, else all with a result so far."""
        scored = [run for run in self.runs if run.final is not None]
        return [run for run in scored if run.results["status"] == "completed"] or scored

    def spread_of(self, name: str) -> dict[str, Any] | None:
        """Mean, deviation and values of a figure of the final result; None where no run has it."""
        values = [run.final[name] for run in self.done if run.final is not None and run.final.get(name) is not None]
        return spread(values) if values else None


def grouped(runs: Sequence[ReportedRun]) -> list[Group]:
    """The groups in the order of their first runs; groups and runs get short labels that differ."""
    members: dict[str, list[ReportedRun]] = {}
    for run in runs:
        members.setdefault(f"{run.data} {all_but_the_seed(run.config)}", []).append(run)
    groups = list(members.values())
    labels = _unique(_labels(groups))
    found = []
    for number, (label, same) in enumerate(zip(labels, groups, strict=True), 1):
        names = _unique([f"{label}, seed = {run.config.seed}" for run in same]) if len(same) > 1 else [label]
        named = tuple(replace(run, label=name, group=label) for run, name in zip(same, names, strict=True))
        found.append(Group(number, label, named))
    return found


def colours_beyond_the_palette(groups: Sequence[Group]) -> dict[int, str]:
    """Colours by number of the groups that the page's style has none for."""
    return {group.number: further_colour(group.number) for group in groups if group.number > PALETTE}


def title_of(groups: Sequence[Group]) -> str:
    """`greedy against end to end: simcnn, k = 2, on digits, 3 seeds each`."""
    same = _shared(groups)
    data = listed(list(dict.fromkeys(data_words(group.first.data) for group in groups)))
    what = ", ".join(word for word in (*same, f"on {data}") if word)
    counts = sorted({len(group.runs) for group in groups})
    seeds = "1 seed" if counts == [1] else f"{'–'.join(map(str, (counts[0], counts[-1])[: len(counts)]))} seeds"
    if len(groups) == 1:
        return f"{what}, {seeds}"
    words = [group.label for group in groups]
    compared = " against ".join(words) if len(words) <= 3 else f"{len(words)} configurations"
    return f"{compared}: {what}, {seeds} each"


def _shared(groups: Sequence[Group]) -> list[str]:
    """What all groups have in common of plan, network and k."""
    plans = {plan_words(group.first.config.plan.name) for group in groups}
    networks = {network_words(group.first) for group in groups}
    if len(networks) > 1:  # such as SimCNN with several k
        networks = {words.partition(",")[0] for words in networks}
    return [" ".join(next(iter(found)) for found in (plans, networks) if len(found) == 1)]


def _labels(groups: Sequence[Sequence[ReportedRun]]) -> list[str]:
    """From a few keys if these tell the groups apart, else from the names of their runs."""
    names = _telling([_common_name([run.name for run in same]) if len(same) > 1 else same[0].name for same in groups])
    if len(groups) == 1 or any(run.config.name for same in groups for run in same):
        return names
    told = [same[0].settings | {"dataset.name": same[0].data} for same in groups]  # each network has keys of its own
    differing = [key for key in dict.fromkeys(key for keys in told for key in keys) if key not in LABELLED_BY]
    chosen: list[str] = []
    for key in (*LABELLED_BY, *(key for key in differing if not key.startswith(("cache.", "logger.", "slurm.")))):
        kinds = {str([known.get(other) for other in chosen]) for known in told}
        finer = {str([known.get(other) for other in (*chosen, key)]) for known in told}
        if len(finer) == len(kinds) or key in UNTOLD:
            continue
        chosen.append(key)
        if len(finer) == len(groups):
            return [_label(known, chosen) for known in told]
        if len(chosen) == MOST_KEYS:
            break
    return names


UNTOLD = {"seed", "name", "output_dir", "dataset.root"}
"""Keys that differ between runs of one configuration."""


def _label(told: dict[str, Any], keys: Sequence[str]) -> str:
    """`end to end, k = 3`."""
    values = {key: told[key] for key in keys if key in told}
    return ", ".join(_told(key, value) for key, value in values.items())


def _told(key: str, value: Any) -> str:
    if key == "plan.name":
        return plan_words(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if key.endswith("name") else f"{key.split('.')[-1]} = {text}"


def _telling(names: list[str]) -> list[str]:
    """Names as they are or, if they are long, what differs between them: `…slowly_3…`."""
    begin, end = (len(_beginning(way)) for way in (names, [name[::-1] for name in names]))
    if len(names) == 1 or max(map(len, names)) <= LONG:
        return names
    begin = max((names[0].rfind(mark, 0, begin) + 1 for mark in SEPARATORS), default=0)  # whole words
    end = max((names[0][::-1].rfind(mark, 0, end) + 1 for mark in SEPARATORS), default=0)
    told = [name[begin : max(begin, len(name) - end)] for name in names]
    return [f"{'…' * (begin > 0)}{name}{'…' * (end > 0)}" for name in told] if all(told) else names


def _common_name(names: Sequence[str]) -> str:
    """What the names of a group's runs begin with."""
    return _beginning(names).removesuffix("seed").rstrip(SEPARATORS) or names[0]


def _beginning(names: Sequence[str]) -> str:
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def _unique(labels: Sequence[str]) -> list[str]:
    return [label if labels.count(label) == 1 else f"{label} ({i})" for i, label in enumerate(labels, 1)]
