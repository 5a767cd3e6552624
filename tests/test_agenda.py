"""Which stages a plan has, and when growing stops."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.runs.finished import valid_depths
from layerwise.training.plan import (
    Agenda,
    FineTuning,
    autoencoder,
    compressed,
    greedy,
    group_ends,
    simultaneous,
)


def rows(*validation: float) -> list[list[dict]]:
    """What stages report whose validation accuracies are given."""
    return [[{"validation": {"top1": value}}] for value in validation]


def test_without_patience_the_agenda_is_the_plan_whatever_the_scores():
    agenda = Agenda(greedy(4, 5), FineTuning(epochs=2, lr=0.1))
    for finished in ((), rows(1, 0), rows(3, 2, 1, 0)):
        stages = agenda.stages(finished)
        assert [(stage.start, stage.stop) for stage in stages] == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
        assert agenda.depth(finished) == 4


@pytest.mark.parametrize(
    ("scores", "patience", "trained", "best"),
    [
        ((50, 60, 59, 58, 57), 3, 5, 2),  # stops three depths behind the best
        ((50, 60, 60, 60, 60), 3, 5, 2),  # an equal score is no improvement
        ((50, 49), 1, 2, 1),
        ((50, 60, 59, 61, 60, 59), 2, 6, 4),  # patience begins anew at each improvement
        ((10, 20, 30, 40, 50, 60, 70, 80), 1, 8, 8),  # never
    ],
)
def test_patience_stops_where_it_should(scores, patience, trained, best):
    agenda = Agenda(greedy(8, 5), FineTuning(epochs=2), patience)
    for n in range(trained):  # before that it goes on
        assert agenda.stages(rows(*scores[:n]))[n].stop == n + 1
    stages = agenda.stages(rows(*scores[:trained]))
    assert [stage.stop for stage in stages[:-1]] == list(range(1, trained + 1))
    assert (stages[-1].start, stages[-1].stop, stages[-1].index) == (0, best, trained)
    assert agenda.depth(rows(*scores[:trained])) == best
    tuned = rows(*scores[:trained], 99)  # what fine-tuning reports does not change the choice
    assert (agenda.stages(tuned), agenda.depth(tuned)) == (stages, best)


@pytest.mark.parametrize(
    "growth",
    [
        autoencoder(3, 5, classifier_epochs=2, carried=True),
        compressed(3, 5, prune_to=[4, 4, 4], prune_epochs=2),
    ],
    ids=["autoencoder", "compressed"],
)
def test_a_depth_is_judged_by_its_last_stage(growth):
    agenda = Agenda(growth, patience=1)
    unjudged = [{"reconstruction": {}}]
    finished = [unjudged, *rows(60), unjudged]
    assert len(agenda.stages(finished)) == 6  # the second depth has no score yet
    assert len(agenda.stages([*finished, *rows(59)])) == 4
    assert agenda.depth([*finished, *rows(59)]) == 1


def test_fine_tuning_an_autoencoder_fits_the_classifier_anew():
    agenda = Agenda(
        autoencoder(2, 5, classifier_epochs=3, carried=True),
        FineTuning(epochs=7, autoencoder_epochs=6, classifier_epochs=3, lr=0.1),
    )
    encode, classify, whole = agenda.stages()[4:]
    assert (encode.target, encode.start, encode.stop, encode.epochs, encode.lr) == ("inputs", 0, 2, 6, 0.1)
    assert (classify.start, classify.stop, classify.restart_head, classify.lr) == (2, 2, True, None)
    assert (whole.target, whole.start, whole.stop, whole.epochs, whole.lr) == ("labels", 0, 2, 7, 0.1)
    assert [stage.index for stage in agenda.stages()] == list(range(7))


def test_only_heads_that_read_unchanged_blocks_are_valid():
    stages = Agenda(greedy(3, 1), FineTuning(epochs=1)).stages()
    assert [valid_depths(stages[:n], "labels") for n in range(5)] == [[], [1], [1, 2], [1, 2, 3], [3]]
    stages = Agenda(autoencoder(2, 1, classifier_epochs=1, carried=True), FineTuning(1, 1, 1)).stages()
    assert [valid_depths(stages[:n], "labels") for n in range(8)] == [[], [], [1], [1], [1, 2], [], [2], [2]]
    assert [valid_depths(stages[:n], "inputs") for n in range(8)] == [[], [1], [1], [1, 2], [1, 2], [2], [2], []]


@given(J=st.integers(1, 12), size=st.integers(1, 15))
@settings(max_examples=50, deadline=None)
def test_groups_cover_all_blocks_once(J, size):
    stages = greedy(J, 1, blocks_per_stage=size)
    assert [stage.stop for stage in stages] == group_ends(J, size)
    blocks = [j for stage in stages for j in range(stage.start + 1, stage.stop + 1)]
    assert blocks == list(range(1, J + 1))
    assert all(stage.depths == (stage.stop,) and stage.stop - stage.start <= size for stage in stages)
    (together,) = simultaneous(J, 1, blocks_per_stage=size)
    assert (together.start, together.stop, together.depths) == (0, J, tuple(group_ends(J, size)))


def test_a_compressed_plan_alternates_between_blocks_and_heads():
    stages = compressed(2, 5, prune_to=[4, 8], prune_epochs=3)
    assert [(s.start, s.stop, s.epochs, s.prune_to) for s in stages] == [
        (0, 1, 5, 4),
        (1, 1, 3, None),
        (1, 2, 5, 8),
        (2, 2, 3, None),
    ]
    assert [s.title for s in stages] == ["block 1", "head 1", "block 2", "head 2"]
