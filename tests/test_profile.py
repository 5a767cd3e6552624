"""`profile=true`: a trace and a table of a few steps of each stage, and the numbers of the run without."""

from __future__ import annotations

import gzip
import json

import pytest

from helpers.run_folders import metrics_of, numbers, only_run, results_of


def steps_of(trace):
    with gzip.open(trace) as file:
        events = json.load(file)["traceEvents"]
    return events, sorted({event["name"] for event in events if event.get("name", "").startswith("ProfilerStep")})


@pytest.mark.parametrize(
    ("options", "first", "last"),
    [({}, 5, 7), ({"epochs": 1}, 1, 3), ({"epochs": 1, "batch_size": 100}, 1, 1)],
    ids=["steps behind the first", "four steps", "two steps"],
)
def test_a_few_steps_of_each_stage_are_recorded_and_no_number_changes(trained, tmp_path, options, first, last):
    plain = trained(name="plain", **options)
    folder = trained(name="profiled", profile="true", **options)
    assert numbers(results_of(folder)) == numbers(results_of(plain))
    assert [line["loss"] for line in metrics_of(folder)] == [line["loss"] for line in metrics_of(plain)]
    names = [f"stage_{number}{suffix}" for number in (1, 2) for suffix in (".trace.json.gz", ".txt")]
    assert sorted(path.name for path in (folder / "profile").iterdir()) == names
    for number in (1, 2):
        events, steps = steps_of(folder / "profile" / f"stage_{number}.trace.json.gz")
        assert steps == [f"ProfilerStep#{i}" for i in range(first, last + 1)]
        assert any(event.get("name") == "aten::convolution" for event in events)
        table = (folder / "profile" / f"stage_{number}.txt").read_text()
        assert "aten::convolution" in table
        assert "Self CPU" in table
    assert not (plain / "profile").exists()


def test_it_names_no_folder(trained, tmp_path):
    assert trained(profile="true") == trained() == only_run(tmp_path)


def test_a_single_step_is_not_recorded(trained):
    assert not (trained(profile="true", epochs=1, batch_size=200) / "profile").exists()


def test_a_stage_that_goes_on_is_recorded_from_there(assert_goes_on_to_the_bit):
    folder = assert_goes_on_to_the_bit(lambda stage, saves: (stage, saves) == (2, 6), profile="true", epochs=4)
    assert (folder / "profile" / "stage_2.txt").exists()
