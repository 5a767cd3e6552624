"""A scientist's check: the numbers of report.html are found again in the files of the runs, read as plain JSON."""

from __future__ import annotations

import re
import statistics
from typing import Any

import pytest
from scipy.stats import binomtest

from helpers.page import Page
from helpers.run_folders import metrics_of, results_of
from layerwise.reporting.html.page import render
from layerwise.reporting.html.reported_run import read_run
from layerwise.reporting.html.words import duration

MEASURED = ("top1", "loss", "value", "seconds", "memory", "images")
"""Fields of the plots' rows that files hold as they are, where a row is of one run."""


def numbers_in(tree: Any) -> set[float]:
    """All numbers of nested JSON values."""
    if isinstance(tree, dict):
        return set().union(*map(numbers_in, tree.values()), set())
    if isinstance(tree, list):
        return set().union(*map(numbers_in, tree), set())
    return {float(tree)} if isinstance(tree, int | float) and not isinstance(tree, bool) else set()


def wilson(accuracy: float, samples: int) -> float:
    """Half the width of the 95 % interval of an accuracy in %, by scipy."""
    interval = binomtest(round(accuracy * samples / 100), samples).proportion_ci(0.95, method="wilson")
    return float(50 * (interval.high - interval.low))


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of a plot and of its layers."""
    data = [part["data"]["values"] for part in (spec, *spec["layer"]) if "data" in part]
    return [row for values in data for row in values]


def cells(text: str) -> list[list[str]]:
    """The rows of all tables of a page, as text."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in row] for row in found]


def row_of(text: str, name: str) -> list[str]:
    """The row of the table of runs that begins with a name."""
    (row,) = [row for row in cells(text) if len(row) == 8 and row[0].split("▸")[0].startswith(name)]
    return row


def test_each_measured_number_of_a_page_about_one_run_is_in_its_files(trained):
    folder = trained(epochs=2, report="true", **{"evaluation.gradients": True})
    results, lines = results_of(folder), metrics_of(folder)
    text = (folder / "report.html").read_text()
    known = numbers_in([results, lines])
    specs, seen = Page(text).specs, 0
    for name, spec in specs.items():
        for row in rows_of(spec):
            for field in MEASURED:
                if field in row:
                    seen += 1
                    assert float(row[field]) in known, (name, row)
    assert seen > 100  # of the matrix alone as many
    assert {row["epoch"] for row in rows_of(specs["loss-curves"])} == {1, 2, 3, 4}
    final = results["final"]
    words = "".join(Page(text).words.split())
    margin = wilson(final["test_top1"], 100)
    assert f"testaccuracy{final['test_top1']:.2f}%100images,95%interval±{margin:.2g}" in words
    assert f"2ʲensemble{final['ensemble_top1']:.2f}%" in words
    assert f"time{''.join(duration(results['seconds']).split())}" in words
    # what the tables below the plots say: rounded to what is shown, and nothing else
    shown = {f"{value:,.2f}" for value in known} | {f"{value:.4g}" for value in known}
    shown |= {f"{int(value):,}" for value in known if value == int(value)}
    macs = {f"{row['macs']:,}" for row in rows_of(specs["anytime"])}  # counted of the network, see test_report_charts
    shares = {f"{row['share']:,.2f}" for row in rows_of(specs["confusion-1"])}
    plain = [cell for row in cells(text) for cell in row if re.fullmatch(r"[\d,]+(\.\d+)?", cell)]
    classes = set(results["classification"]["classes"])
    strange = [cell for cell in plain if cell not in shown | macs | shares | classes]
    settings = {cell for row in cells(text) if len(row) == 2 for cell in row}  # keys and values of the configuration
    assert [cell for cell in strange if cell not in settings] == []


def test_each_figure_of_a_comparison_is_the_mean_of_the_files(trained):
    folders = {plan: [trained(epochs=1, plan=plan, seed=seed) for seed in (0, 1, 2)] for plan in ("greedy", "joint")}
    text = render([read_run(folder) for same in folders.values() for folder in same])
    page = Page(text)
    words = " ".join(page.words.split())
    everything = {plan: [results_of(folder) for folder in same] for plan, same in folders.items()}
    for plan, label in (("greedy", "greedy"), ("joint", "end to end")):
        runs = everything[plan]
        top1 = [run["final"]["test_top1"] for run in runs]
        mean = f"{statistics.fmean(top1):.2f} ± {statistics.stdev(top1):.2f}"
        assert f"{label} {mean} % test accuracy, mean ± deviation of 3 seeds, 100 images" in words
        row = row_of(text, label)
        assert row[1] == mean
        assert row[3] == "3"
        assert row[5] == f"{statistics.fmean(run['seconds'] for run in runs):.1f}"
        needed = [
            max(sum(r["memory_mb"][p] for p in ("parameters", "activations")) for r in run["blocks"]) for run in runs
        ]
        mean = statistics.fmean(needed)
        assert row[6] == (f"{mean:,.0f}" if mean >= 10 else f"{mean:.2g}")
        for depth in {r["block"] for r in runs[0]["blocks"]}:
            values = [r["test"]["top1"] for run in runs for r in run["blocks"] if r["block"] == depth]
            (point,) = [
                row
                for row in page.specs["accuracy"]["data"]["values"]
                if (row["group"], row["block"], row["predictor"]) == (label, depth, "head")
            ]
            assert point["top1"] == pytest.approx(statistics.fmean(values))
            deviation = statistics.stdev(values)
            assert point["std"] == pytest.approx(deviation)
            assert (point["low"], point["high"]) == pytest.approx(
                (point["top1"] - deviation, point["top1"] + deviation)
            )
            assert point["n"] == 3
        lines = [[line["loss"] for line in metrics_of(folder)] for folder in folders[plan]]
        drawn = [row["value"] for row in page.specs["loss-curves"]["data"]["values"] if row["group"] == label]
        assert drawn == pytest.approx([statistics.fmean(at) for at in zip(*lines, strict=True)])
    best = max(row["top1"] for row in page.specs["accuracy"]["data"]["values"])
    (axis,) = {
        layer["encoding"]["y"]["title"]
        for layer in page.specs["accuracy"]["layer"]
        if "mark" in layer and "title" in layer["encoding"].get("y", {})
    }
    said = re.fullmatch(r"test accuracy \(%\), n = 100, 95 % interval ±([\d.]+)", axis)
    assert said is not None
    assert float(said[1]) == pytest.approx(wilson(best, 100), abs=0.3)  # of a mean, which is no count of samples
    seconds = sum(run["seconds"] for runs in everything.values() for run in runs)
    drawn = sum(row["seconds"] for row in page.specs["time"]["data"]["values"])
    assert drawn == pytest.approx(seconds / 3)
