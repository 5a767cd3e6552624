"""Gathers the results of all runs below some folders in one table, whatever started them.

    layerwise collect outputs/sweep
    layerwise collect outputs/sweep --each --csv sweep.csv
    layerwise collect outputs/sweep --over optimizer.lr --over seed

Runs that differ in the seed alone share a row: mean ± sample standard deviation of the completed ones, and their
number. --over KEY averages over another key. --each gives a row per run, as does a table in which no two runs differ in
the seed alone: its name, its status, the configuration keys in which the runs differ, its final depth, top-1 accuracies
(or R² and MAE) of the last head, of the ensemble and on held-out samples, parameters and seconds. Incomplete runs show
the stages that are finished. Markdown goes to stdout, unless --csv or --markdown names a file.

Incomplete runs are named on stderr with the reason, and make the exit code 1: failed, interrupted, running (a process
works on it), stopped (none does), not begun to report, or damaged. A trial that its search ended early is not one.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerwise.analysis.collecting import COMPLETED, MEANING, Collected, differing_keys, read_run, runs_below
from layerwise.commands.arguments import Parser, named
from layerwise.config.keys import key_names, kinds_keys, suggest_key
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.core.measures import ACCURACY, R2
from layerwise.core.spread import spread, with_spread
from layerwise.runs.run_files import ENDED_EARLY

FIGURES = (
    *("depth", "test %", "ensemble %", "validation %"),
    *("test R²", "test MAE", "ensemble R²", "validation R²", "parameters", "seconds"),
)


def main(words: Sequence[str]) -> None:
    parser = Parser("collect", __doc__)
    parser.add_argument(
        "folders", nargs="+", type=named, metavar="FOLDER", help="run folder, or folder with runs below it"
    )
    parser.add_argument(
        "--over", action="append", default=[], metavar="KEY", help="average over this key; may be repeated"
    )
    parser.add_argument("--each", action="store_true", help="a row per run, also of runs that differ in the seed alone")
    parser.add_argument("--csv", type=named, metavar="FILE", help="write the table there, unrounded")
    parser.add_argument("--markdown", type=named, metavar="FILE", help="write the table there")
    parser.add_argument("--allow-unfinished", action="store_true", help="exit with 0 even if runs are incomplete")
    options = parser.parse_args(words)
    if options.each and options.over:
        raise LayerwiseError("--each cannot be combined with --over, which averages; give only one of them.")
    for key in options.over:
        if key not in (*key_names(Config()), *kinds_keys()):
            raise LayerwiseError(f"--over {key}: unknown key.{suggest_key(key)}")
    runs = collect(options.folders)
    table = one_by_one(runs) if options.each else averages(runs, options.over) if options.over else rows_of(runs)
    for path, text in ((options.csv, as_csv), (options.markdown, as_markdown)):
        if path is not None:
            write_atomically(path, text(table), kept="The runs are intact.")
    if options.csv is None and options.markdown is None:
        print(as_markdown(table), end="")
    unfinished = {name: run for name, run in runs.items() if run.status not in (COMPLETED, ENDED_EARLY)}
    for name, run in unfinished.items():
        print(f"{run.status}: {name}: {run.error or MEANING.get(run.status, 'no reason given')}", file=sys.stderr)
    if unfinished:
        print(f"{len(unfinished)} of {len(runs)} runs are incomplete.", file=sys.stderr)
        sys.exit(0 if options.allow_unfinished else 1)


def collect(tops: Sequence[Path]) -> dict[str, Collected]:
    """The runs below some folders, by their path relative to the given folder.

    Raises:
        LayerwiseError: a folder is absent, or holds no run.
    """
    found: dict[Path, str] = {}
    for top, folder in runs_below(tops):
        found.setdefault(folder.resolve(), folder.resolve().name if folder == top else str(folder.relative_to(top)))
    names = list(found.values())
    return {str(path) if names.count(name) > 1 else name: read_run(path) for path, name in found.items()}


@dataclass(frozen=True)
class Row:
    """A row of the table: `labels` identify its runs; `values` are their figures, by name."""

    labels: dict[str, Any]
    values: dict[str, list[float]]


def rows_of(runs: dict[str, Collected]) -> list[Row]:
    """A row for all runs that differ in the seed alone, or a row per run where no two do."""
    table = averages(runs, ["seed"])
    return one_by_one(runs) if all(row.labels["runs"] == 1 for row in table) else table


def one_by_one(runs: dict[str, Collected]) -> list[Row]:
    """A row per run."""
    keys, rows = differing_keys(runs.values()), []
    for name, run in sorted(runs.items(), key=lambda item: (order(item[1].config, keys), item[0])):
        labels = {"name": name, "status": run.status, **{key: run.config.get(key, UNKNOWN) for key in keys}}
        rows.append(Row(labels, {figure: [value] for figure, value in run.figures.items()}))
    return rows


def averages(runs: dict[str, Collected], over: Sequence[str]) -> list[Row]:
    """A row for all runs that differ in the keys `over` alone. Runs without a configuration are left out."""
    readable = [run for run in runs.values() if run.config]
    keys = [key for key in differing_keys(readable) if key not in over]
    groups: dict[str, list[Collected]] = {}
    for run in sorted(readable, key=lambda run: order(run.config, keys)):
        groups.setdefault(json.dumps([run.config.get(key, UNKNOWN) for key in keys]), []).append(run)
    rows = []
    for group in groups.values():
        completed = [run for run in group if run.status == COMPLETED]
        labels = {key: group[0].config.get(key, UNKNOWN) for key in keys}
        labels |= {"runs": len(group), "completed": len(completed)}
        values = {name: [run.figures[name] for run in completed if name in run.figures] for name in FIGURES}
        rows.append(Row(labels, {name: found for name, found in values.items() if found}))
    return rows


UNKNOWN = "–"


def order(config: dict[str, Any], keys: Sequence[str]) -> list[tuple[int, float, str]]:
    """Sort key: numbers by size, then words."""
    values = [config.get(key) for key in keys]
    return [(0, float(v), "") if isinstance(v, int | float) else (1, 0.0, as_text(v)) for v in values]


def as_text(value: Any) -> str:
    """A value as on the command line; floats with six significant digits."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, separators=(",", ":"))


def labels_of(rows: Sequence[Row]) -> list[str]:
    return list(rows[0].labels) if rows else []


def figures_of(rows: Sequence[Row]) -> list[str]:
    """The columns: those that any run has, and a few always."""
    found = {name for row in rows for name in row.values}
    always = {"depth", "parameters", "seconds"} | ({"test %", "ensemble %"} if "test R²" not in found else set())
    return [name for name in FIGURES if name in found | always]


def as_markdown(rows: Sequence[Row]) -> str:
    headings = [*labels_of(rows), *(figures := figures_of(rows))]
    lines = [headings, ["---"] * len(headings)]
    for row in rows:
        labels = [as_text(value) for value in row.labels.values()]
        lines.append([*labels, *(cell(name, row.values.get(name, [])) for name in figures)])
    return "".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |\n" for line in lines)


def cell(name: str, values: list[float]) -> str:
    if not values:
        return UNKNOWN
    if name in ("depth", "parameters"):  # integers; several if the runs differ
        return ", ".join(f"{value:,}" for value in sorted(set(values)))
    if name == "seconds":
        return f"{spread(values)['mean']:.1f}"
    return with_spread(spread(values), {"R²": R2.form, "MAE": ".4g"}.get(name.split()[-1], ACCURACY.form))


def as_csv(rows: Sequence[Row]) -> str:
    """Means, with a column of standard deviations per figure if any row has several values."""
    several = any(len(values) > 1 for row in rows for values in row.values.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = figures_of(rows)
    headings = [heading for name in figures for heading in ([name, f"{name} std"] if several else [name])]
    writer.writerow([*labels_of(rows), *headings])
    for row in rows:
        line: list[Any] = [value if isinstance(value, float) else as_text(value) for value in row.labels.values()]
        for name in figures:
            mean, std = mean_and_std(row.values.get(name, []))
            line += [mean, std] if several else [mean]
        writer.writerow(line)
    return text.getvalue()


def mean_and_std(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; a single value has no deviation."""
    if len(values) < 2:
        return (values[0] if values else None), None
    found = spread(values)
    return found["mean"], found["std"]
