"""scripts/collect.py: one table of all runs below a folder, and every run that is not complete is named."""

from __future__ import annotations

import csv
import runpy
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from helpers.commands import ROOT, Outcome, run_script
from helpers.configs import composed
from helpers.data import tiny_spec
from helpers.run_folders import results_of, rewrite_results
from layerwise.analysis.collecting import Collected, differing_keys
from layerwise.commands.collect import averages
from layerwise.config.identity import identity
from layerwise.config.parse import from_yaml, parse
from layerwise.config.resolve import resolve
from layerwise.runs.folder import RunFolder, in_use

SEEDS, KS = (0, 1, 2), (1, 2)
FIGURES = ["depth", "test %", "ensemble %", "validation %", "parameters", "seconds"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of six runs that are complete: k=1,2 and three seeds."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    words = ["experiment=demo_digits", "J=1", "epochs=1", "model.width=8", "model.head_width=8", "model.downsample=[]"]
    words += ["dataset.limit=200", "dataset.limit_test=100", "dataset.validation=0.2", "progress=off"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *words, "k=1,2", "seed=0,1,2", f"output_dir={out}", "--multirun"])
        GlobalHydra.instance().clear()
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    return out


@pytest.fixture
def sweep(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "out"))


def collect(*words: object) -> Outcome:
    return run_script("collect", *map(str, words))


def markdown_rows(text: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]
    assert set(lines[1]) == {"---"}
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def the_run(sweep: Path, k: int, seed: int) -> Path:
    runs = [path for path in sweep.glob("simcnn-*") if f"-k{k}-" in path.name and f"-seed{seed}-" in path.name]
    (folder,) = runs
    return folder


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    results = results_of(folder)
    change(results)
    rewrite_results(folder, results)


def test_the_table_has_a_row_per_run_with_the_keys_that_differ(sweep):
    outcome = collect(sweep, "--each")
    assert (outcome.code, outcome.err) == (0, "")
    rows = markdown_rows(outcome.out)
    assert list(rows[0])[:4] == ["name", "status", "k", "seed"]
    assert list(rows[0])[-6:] == FIGURES
    assert {"output_dir", "epochs", "J"}.isdisjoint(rows[0])
    assert [(row["k"], row["seed"]) for row in rows] == [(str(k), str(seed)) for k in KS for seed in SEEDS]
    for row in rows:
        results = results_of(sweep / row["name"])
        final, (block,) = results["final"], results["blocks"]
        assert row["status"] == "completed"
        assert row["test %"] == f"{final['test_top1']:.2f}"
        assert row["ensemble %"] == f"{final['ensemble_top1']:.2f}"
        assert row["validation %"] == f"{block['validation']['top1']:.2f}"
        assert (row["depth"], row["parameters"]) == ("1", f"{final['parameters']:,}")
        assert row["seconds"] == f"{results['seconds']:.1f}"


def test_csv_and_markdown_files_take_the_place_of_stdout(sweep, tmp_path):
    whole = collect(sweep, "--each").out
    outcome = collect(sweep, "--each", "--csv", tmp_path / "a.csv", "--markdown", tmp_path / "a.md")
    assert (outcome.code, outcome.out) == (0, "")
    assert (tmp_path / "a.md").read_text() == whole
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert list(rows[0]) == list(markdown_rows(whole)[0])
    for row in rows:
        final = results_of(sweep / row["name"])["final"]
        assert float(row["test %"]) == final["test_top1"]
        assert row["parameters"] == str(final["parameters"])


def test_over_averages_the_runs_that_differ_in_a_key_alone(sweep, tmp_path):
    outcome = collect(sweep, "--over", "seed")
    assert outcome.code == 0
    assert outcome == collect(sweep)  # without any option
    rows = markdown_rows(outcome.out)
    assert "seed" not in rows[0]
    assert [(row["k"], row["runs"], row["completed"]) for row in rows] == [("1", "3", "3"), ("2", "3", "3")]
    assert collect(sweep, "--over", "seed", "--csv", tmp_path / "a.csv").code == 0
    exact = list(csv.DictReader((tmp_path / "a.csv").open()))
    for k, row, unrounded in zip(KS, rows, exact, strict=True):
        values = [results_of(the_run(sweep, k, seed))["final"]["test_top1"] for seed in SEEDS]
        mean, std = statistics.fmean(values), statistics.stdev(values)
        assert row["test %"] == f"{mean:.2f} ± {std:.2f}"
        assert float(unrounded["test %"]) == pytest.approx(mean)
        assert float(unrounded["test % std"]) == pytest.approx(std)


def test_runs_that_are_not_complete_do_not_count_in_averages(sweep):
    rewrite(the_run(sweep, 1, 0), lambda results: results.update(status="failed", error="the loss became NaN."))
    outcome = collect(sweep, "--over", "seed")
    assert outcome.code == 1
    row = markdown_rows(outcome.out)[0]
    values = [results_of(the_run(sweep, 1, seed))["final"]["test_top1"] for seed in (1, 2)]
    assert (row["runs"], row["completed"]) == ("3", "2")
    assert row["test %"] == f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


def test_a_row_per_run_and_an_average_are_two_wishes(sweep):
    outcome = collect(sweep, "--each", "--over", "k")
    assert outcome.code == 2
    assert "--each" in outcome.err


def test_a_key_averaged_over_need_not_differ_and_several_can_be_given(sweep):
    assert len(markdown_rows(collect(sweep, "--over", "epochs").out)) == 6
    keys = ("k", "model.batch_norm")  # k=1 decides batch norm, too
    rows = markdown_rows(collect(sweep, *(word for key in keys for word in ("--over", key))).out)
    assert [(row["seed"], row["runs"]) for row in rows] == [(str(seed), "2") for seed in SEEDS]


def test_plans_are_told_apart_by_their_name_and_runs_of_one_plan_by_its_keys():
    chosen = (["plan=joint"], ["plan.epochs=4"], ["plan.head=carried"], [])
    runs = [Collected(Path(), "completed", identity(parse(composed("dataset=digits", *words)))) for words in chosen]
    assert differing_keys(runs) == ["plan.name", "plan.epochs", "plan.head"]
    assert [len(averages(dict(enumerate(runs)), over)) for over in (["seed"], ["plan.head"])] == [4, 3]


def test_rates_that_differ_in_the_seventh_digit_are_two_configurations(sweep):
    config = the_run(sweep, 1, 0) / "config.yaml"
    text = yaml.safe_load(config.read_text())
    text["optimizer"]["lr"] = text["optimizer"]["lr"] * (1 + 1e-9)
    config.write_text(yaml.safe_dump(text))
    rows = markdown_rows(collect(sweep, "--over", "seed").out)
    assert [row["runs"] for row in rows] == ["2", "1", "3"]


def test_every_run_that_is_not_complete_is_named_with_the_reason(sweep):
    """Failed, interrupted, killed, not begun, damaged in two ways; the table has the others."""
    runs = [the_run(sweep, k, seed) for k in KS for seed in SEEDS]
    failed, interrupted, stopped, not_begun, damaged, no_config = runs
    rewrite(
        failed, lambda results: results.update(status="failed", error="the loss became NaN.", final=None, blocks=[])
    )
    rewrite(interrupted, lambda results: results.update(status="interrupted", error="stopped by SIGTERM."))
    rewrite(stopped, lambda results: results.update(status="running"))
    (not_begun / "results.json").unlink()
    (damaged / "results.json").write_text('{"status": "comp')
    (no_config / "config.yaml").unlink()
    outcome = collect(sweep, "--each")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    lines = outcome.err.splitlines()
    assert lines[-1] == "6 of 6 runs are incomplete."
    for text in (
        f"failed: {failed.name}: the loss became NaN.",
        f"interrupted: {interrupted.name}: stopped by SIGTERM.",
        f"stopped: {stopped.name}: its process ended",
        f"not begun to report: {not_begun.name}: ",
        f"damaged: {damaged.name}: {damaged / 'results.json'} is damaged",
        f"damaged: {no_config.name}: {no_config / 'config.yaml'}: cannot be read",
    ):
        assert len([line for line in lines if line.startswith(text)]) == 1, outcome.err
    status = {row["name"]: row["status"] for row in markdown_rows(outcome.out)}
    assert status[stopped.name] == "stopped"
    assert {row["test %"] for row in markdown_rows(outcome.out) if row["name"] == failed.name} == {"–"}
    assert collect(sweep, "--allow-unfinished").code == 0


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"status": 3}', '{"final": {"block": 1}, "blocks": 5, "seconds": 1}']
)
def test_any_damage_of_results_is_named_and_the_others_are_shown(sweep, content):
    damaged = the_run(sweep, 1, 0)
    (damaged / "results.json").write_text(content)
    outcome = collect(sweep, "--each")
    assert outcome.code == 1
    assert f"damaged: {damaged.name}: " in outcome.err
    assert "Traceback" not in outcome.err
    assert [row["status"] for row in markdown_rows(outcome.out)].count("completed") == 5


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", None])
def test_a_run_whose_process_lives_is_running_and_is_not_disturbed(sweep, status):
    run = the_run(sweep, 1, 0)
    if status is None:
        (run / "results.json").unlink()
    else:
        rewrite(run, lambda results: results.update(status=status, error="of an earlier process"))
    config = replace(resolve(from_yaml(run / "config.yaml")), output_dir=str(sweep))
    holder = RunFolder(config, tiny_spec())
    assert holder.path == run
    outcome = collect(sweep)
    assert outcome.code == 1
    assert f"running: {run.name}: a process works on it\n" in outcome.err
    assert in_use(run)
    holder.close()
    assert not in_use(run)
    assert f"running: {run.name}" not in collect(sweep).err


def test_the_search_for_a_depth_inside_a_run_is_no_run_of_its_own(sweep):
    run = the_run(sweep, 1, 0)
    shutil.copytree(the_run(sweep, 2, 0), run / "search")
    assert len(markdown_rows(collect(sweep, "--each").out)) == 6
    assert len(markdown_rows(collect(run / "search").out)) == 1


def test_runs_of_several_folders_are_told_apart(sweep, tmp_path):
    run = the_run(sweep, 1, 0)
    other = tmp_path / "other" / "deep"
    shutil.copytree(run, other / run.name)
    names = [row["name"] for row in markdown_rows(collect(sweep, other, sweep, "--each").out)]
    assert len(names) == 7
    assert {str(run.resolve()), str((other / run.name).resolve())} < set(names)
    (name,) = [row["name"] for row in markdown_rows(collect(tmp_path / "other").out)]
    assert name == f"deep/{run.name}"
    (name,) = [row["name"] for row in markdown_rows(collect(run).out)]
    assert name == run.name


def test_validation_is_a_column_only_where_there_is_some(sweep):
    for k in KS:
        for seed in SEEDS:
            rewrite(the_run(sweep, k, seed), lambda results: results["blocks"][0].pop("validation"))
    assert "validation %" not in markdown_rows(collect(sweep).out)[0]
