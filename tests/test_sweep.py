"""scripts/sweep.py, and the sweep files that come with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.commands import ROOT, Outcome, run_script, words
from helpers.configs import configured
from helpers.run_folders import results_of
from layerwise.config import build

LINES = """\
# a comment, and a blank line

  k=banana
name="second
name='the third' seed=1
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A file of three runs; two of them are wrong."""
    path = tmp_path / "sweep.txt"
    path.write_text(LINES)
    return path


def run_sweep(sweep: Path, *options: str) -> Outcome:
    return run_script("sweep", str(sweep), *options, "--", *words(sweep.parent / "out", k=None, J=None))


def test_all_runs_are_trained_and_the_failed_ones_named(sweep, capfd, forked_runs):
    outcome = run_sweep(sweep)
    banana = f"{sweep}:3: failed (error: k: Value 'banana' of type 'str' could not be converted to Integer.)"
    unreadable = f"{sweep}:4: cannot read 'name=\"second': no closing quotation."
    assert outcome.code == 1
    assert outcome.out.splitlines() == ["3 runs: 1 finished, 2 failed", f"  {banana}", f"  {unreadable}"]
    said = outcome.err.splitlines()
    third = next(i for i, line in enumerate(said) if "the third" in line)
    assert said.index(banana) < said.index(unreadable) < third  # at once, and not only at the end
    results = results_of(sweep.parent / "out" / "the third")
    assert (results["status"], results["seed"]) == ("completed", 1)


def test_one_run_alone_ends_as_train_py_does(sweep, capfd):
    assert run_sweep(sweep, "--line", "2").code == 0
    assert [path.name for path in (sweep.parent / "out").iterdir()] == ["the third"]
    again = run_sweep(sweep, "--line", "2")
    assert (again.code, "this run is finished" in again.err) == (0, True)
    wrong = run_sweep(sweep, "--line", "0")
    assert wrong.code == 2
    assert wrong.err.splitlines()[-1] == f"{sweep}:3: failed with exit code 2: k=banana"
    assert f"error: {sweep}:4: cannot read" in run_sweep(sweep, "--line", "1").err


def test_a_check_names_what_is_wrong_and_what_stands_there_twice(sweep):
    sweep.write_text(LINES + "optimizer.lr=0.5\noptimizer.lr=5e-1 progress=off\nmodel.widht=3\ndataset.name=digit\n")
    outcome = run_sweep(sweep, "--check")
    assert outcome.code == 1
    assert outcome.out == "7 runs, 5 of them wrong\n"
    problems = [line.removeprefix(f"{sweep}:") for line in outcome.err.splitlines()]
    assert [line.split(":")[0] for line in problems] == ["3", "4", "7", "8", "9"]
    assert f"7: the same run as {sweep}:6 ({sweep.parent / 'out'}/simcnn-digits-" in problems[2]
    assert "Did you mean 'model.width'?" in problems[3]
    assert "Did you mean 'digits'?" in problems[4]
    assert not (sweep.parent / "out").exists()
    sweep.write_text("k=1\nk=2")
    assert run_sweep(sweep, "--check") == Outcome(0, "2 runs\n", "")


def test_runs_are_counted_from_0(sweep):
    assert run_sweep(sweep, "--count") == Outcome(0, "3\n", "")
    outcome = run_sweep(sweep, "--line", "3")
    assert (outcome.code, outcome.err) == (2, f"error: --line 3: {sweep} has the runs 0 to 2.\n")


@pytest.mark.parametrize(("text", "expected"), [(None, "cannot be read"), ("# only\n\n", "holds no runs")])
def test_a_file_without_runs_is_refused(sweep, text, expected):
    sweep.unlink() if text is None else sweep.write_text(text)
    outcome = run_sweep(sweep)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {sweep}: {expected}")


FILES = sorted((ROOT / "slurm" / "sweeps").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_line_of_the_papers_sweeps_is_a_run_of_its_own(path):
    outcome = run_script("sweep", str(path), "--check")
    assert outcome.code == 0, outcome.err


def networks_of_all_sweeps() -> list[str]:
    """Each that is no experiment as it stands: those are built in test_architecture."""
    lines = [line for path in FILES for line in path.read_text().splitlines() if line and not line.startswith("#")]
    same = ("seed", "name", "plan.reuse")
    kept = [[word for word in line.split() if word.split("=")[0] not in same] for line in lines]
    return sorted({" ".join(line) for line in kept if len(line) > 1})


@pytest.mark.parametrize("line", networks_of_all_sweeps())
def test_every_network_of_the_papers_sweeps_builds(line):
    config = configured(*line.split())
    spec = build.build_spec(config)
    stages = build.build_agenda(config).stages()
    with torch.device("meta"):
        network = build.build_network(config, spec, stages)
    assert len(network.blocks) == stages[-1].stop
