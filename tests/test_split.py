"""Stratified choices of samples: folds, held-out and labelled parts, and the statistics that follow from them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.data import CPU
from helpers.run_folders import results_of
from layerwise.config.build import sample_counts
from layerwise.config.datasets.vectors import BlobsConfig
from layerwise.config.schema import Config
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key
from layerwise.data.choices import ValidationSplit
from layerwise.data.dataset import Dataset
from layerwise.data.factory import load
from layerwise.data.own import Own, Samples
from layerwise.data.split import balanced_order, class_weights, fold_out, fraction_of, hold_out, stratified_order
from layerwise.data.table import Table
from layerwise.data.table_file import TableFiles
from layerwise.data.toy import Blobs, Digits

labels_of_all_kinds = st.lists(st.integers(0, 4), min_size=2, max_size=80)
sizes_of_classes = st.lists(st.sampled_from([1, 1, 2, 3, 5, 40]), min_size=1, max_size=8)


def classes_of_sizes(sizes: list[int]) -> Tensor:
    return torch.tensor([c for c, size in enumerate(sizes) for _ in range(size)])


def counts(labels: Tensor, parts: list[Tensor]) -> Tensor:
    """[P, c]: samples of each class in each part."""
    return torch.stack([torch.bincount(labels[part], minlength=int(labels.max()) + 1) for part in parts])


# Folds


@settings(deadline=None)
@given(labels_of_all_kinds, st.integers(2, 10))
def test_folds_are_disjoint_and_cover_all_samples(labels, folds):
    targets, folds = torch.tensor(labels), min(folds, len(labels))
    parts = [fold_out(targets, folds, fold) for fold in range(1, folds + 1)]
    assert sorted(torch.cat([held for _, held in parts]).tolist()) == list(range(len(labels)))
    for kept, held in parts:
        assert torch.cat([kept, held]).sort().values.tolist() == list(range(len(labels)))
        assert kept.tolist() == sorted(kept.tolist())
        assert held.tolist() == sorted(held.tolist())


@settings(deadline=None)
@given(sizes_of_classes, st.integers(2, 10))
def test_folds_differ_by_one_sample_at_most_in_all_and_of_each_class(sizes, folds):
    targets = classes_of_sizes(sizes)
    folds = min(folds, len(targets))
    if folds < 2:
        return
    by_class = counts(targets, [fold_out(targets, folds, fold)[1] for fold in range(1, folds + 1)])
    for per_fold in (by_class, by_class.sum(dim=1, keepdim=True)):
        assert (per_fold.max(dim=0).values - per_fold.min(dim=0).values).max() <= 1


def test_folds_are_stratified_though_there_are_many_classes_of_one_sample():
    labels = classes_of_sizes([1000] + [1] * 100)
    by_class = counts(labels, [fold_out(labels, 5, fold)[1] for fold in range(1, 6)])
    assert by_class[:, 0].tolist() == [200] * 5
    assert by_class.sum(dim=1).tolist() == [220] * 5


def test_folds_are_drawn_at_random_but_always_alike():
    labels = torch.arange(100) % 2
    first = fold_out(labels, 4, 1)[1]
    assert torch.equal(first, fold_out(labels, 4, 1)[1])
    assert first.tolist() != list(range(25))
    assert len({int(i) % 4 for i in first}) > 1


def test_as_many_folds_as_samples_hold_out_one_each_and_more_are_refused():
    labels = torch.tensor([0, 1, 1, 0, 2])
    assert sorted(int(fold_out(labels, 5, fold)[1]) for fold in range(1, 6)) == [0, 1, 2, 3, 4]
    with pytest.raises(LayerwiseError, match=r"dataset\.folds=6: there are only 5 training samples"):
        fold_out(labels, 6, 1)


# Orders and fractions


@settings(deadline=None)
@given(sizes_of_classes, st.integers(0, 5))
def test_every_prefix_of_a_stratified_order_has_one_share_of_all_classes(sizes, seed):
    labels = classes_of_sizes(sizes)
    order = stratified_order(labels, key("x", seed))
    assert order.sort().values.tolist() == list(range(len(labels)))
    for n in range(1, len(labels) + 1):
        (there,) = counts(labels, [order[:n]]).tolist()
        least = max((count - 0.5) / size for count, size in zip(there, sizes, strict=True))  # share that explains it
        most = min((count + 0.5) / size for count, size in zip(there, sizes, strict=True))
        assert least <= most + 1e-9, (there, sizes)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 3))
def test_for_classes_of_one_size_stratified_and_balanced_orders_agree(classes, size, seed):
    labels = torch.arange(classes * size) % classes
    assert torch.equal(stratified_order(labels, key("x", seed)), balanced_order(labels, key("x", seed)))


def test_a_stratified_order_depends_on_its_key_and_mixes_samples():
    labels = torch.zeros(50, dtype=torch.int64)
    orders = [stratified_order(labels, key("x", seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != sorted(orders[0])


@settings(deadline=None)
@given(labels_of_all_kinds, st.floats(0.01, 1.0), st.integers(0, 5))
def test_a_fraction_has_the_size_that_was_asked_for_and_all_classes(labels, fraction, seed):
    targets = torch.tensor(labels)
    n = round(fraction * len(labels))
    expected = stratified_order(targets, key("dataset.labelled", seed))[:n]
    if set(targets[expected].tolist()) == set(labels):
        chosen = fraction_of(targets, fraction, seed, "dataset.labelled")
        assert chosen.tolist() == sorted(expected.tolist())
    else:
        with pytest.raises(LayerwiseError, match=rf"dataset\.labelled={fraction}: .* none of some class"):
            fraction_of(targets, fraction, seed, "dataset.labelled")


def test_fractions_are_stratified_and_seeds_and_options_choose_differently():
    labels = classes_of_sizes([600, 300, 100])
    chosen = fraction_of(labels, 0.1, 0, "dataset.labelled")
    assert counts(labels, [chosen])[0].tolist() == [60, 30, 10]
    others = (fraction_of(labels, 0.1, 1, "dataset.labelled"), hold_out(labels, 0.1, 0)[1])
    for other in others:
        assert counts(labels, [other])[0].tolist() == [60, 30, 10]
        assert not torch.equal(chosen, other)


# Through `load`


def digits(**options: object) -> Dataset:
    return load(Digits(), CPU, **options)


def numbers_of(data: Dataset, split: str) -> set[int]:
    return set(data.splits[split].samples.tolist())


def test_the_folds_of_digits_are_those_of_all_seeds_and_cover_the_training_images():
    whole, held = digits(), []
    for fold in (1, 2, 3):
        data = digits(folds=3, fold=fold, seed=fold)
        held.append(numbers_of(data, "validation"))
        assert numbers_of(data, "train") == numbers_of(whole, "train") - held[-1]
        assert torch.equal(data.splits["test"].values, whole.splits["test"].values)
        assert held[-1] == numbers_of(digits(folds=3, fold=fold, seed=7), "validation")
        per_class = torch.bincount(data.splits["validation"].labels) - torch.bincount(whole.splits["train"].labels) / 3
        assert per_class.abs().max() < 1
    assert [len(part) for part in held] == [479, 479, 479]
    assert set.union(*held) == numbers_of(whole, "train")


@pytest.mark.parametrize("fold", [1, 4])
def test_samples_are_counted_without_reading_them(fold):
    config = Config(dataset=BlobsConfig(name="blobs", folds=7, fold=fold))
    data = load(Blobs(), CPU, folds=7, fold=fold)
    train, held_out = sample_counts(config, data.spec)
    assert abs(train - len(data.splits["train"])) <= 1  # folds differ by one
    assert abs(held_out - len(data.splits["validation"]) - len(data.splits["test"])) <= 1


def test_the_last_samples_can_be_held_out():
    whole = digits()
    data = digits(validation=0.2, validation_split=ValidationSplit.last, seed=3)
    n = len(whole.splits["train"])
    assert numbers_of(data, "validation") == set(range(n - round(0.2 * n), n))
    assert numbers_of(data, "train") == set(range(n - round(0.2 * n)))


def test_the_last_samples_are_not_held_out_where_they_are_all_of_a_class():
    images, labels = torch.zeros(30, 4, 4, 1, dtype=torch.uint8), torch.arange(30) // 10
    sorted_by_class = Own("mine", Samples((images, labels), (images, labels)))
    with pytest.raises(LayerwiseError, match=r"dataset\.validation_split=last: .*10 samples .*validation_split=random"):
        load(sorted_by_class, CPU, validation=1 / 3, validation_split=ValidationSplit.last)
    assert len(load(sorted_by_class, CPU, validation=1 / 3).splits["validation"]) == 10


def test_validation_samples_depend_on_the_seed():
    first, same, other = (numbers_of(digits(validation=0.1, seed=seed), "validation") for seed in (0, 0, 1))
    assert len(first) == 144
    assert first == same
    assert first != other


def test_only_some_training_samples_have_a_label_and_all_have_inputs():
    data = digits(labelled=0.1, folds=3, fold=2, limit_train=600)
    labelled, all_of_them = data.having("labels"), data.having("inputs")
    assert (labelled, all_of_them) == (60, 600)
    assert torch.bincount(data.splits["train"].labels[:labelled]).tolist() == [6] * 10
    other = digits(labelled=0.1, folds=3, fold=2, limit_train=600, seed=1)
    numbers = [set(d.splits["train"].samples[: d.having("labels")].tolist()) for d in (data, other)]
    assert numbers[0] != numbers[1]
    assert digits().having("labels") == 1437


def test_images_are_scaled_or_left_in_the_unit_interval():
    images = {on: digits(standardise=on, augment=False) for on in (True, False)}
    inputs = {on: next(data.batches("train", torch.arange(1437), 1437)).inputs for on, data in images.items()}
    assert inputs[True].mean().item() == pytest.approx(0, abs=0.01)
    assert inputs[True].std().item() == pytest.approx(1, abs=0.01)
    assert (inputs[False].min().item(), inputs[False].max().item()) == (0, 1)
    assert not images[True].within_unit_interval()
    assert images[False].within_unit_interval()
    assert torch.allclose(inputs[False].permute(0, 2, 3, 1), images[False].splits["train"].values / 255)


@pytest.mark.parametrize("options", [{}, {"folds": 4, "fold": 3}, {"validation": 0.3}, {"limit_train": 20}])
def test_statistics_of_vectors_are_those_of_the_training_samples_alone(options):
    assert Blobs().spec().mean == Blobs().spec().std == ()
    raw = load(Blobs(), CPU, standardise=False, **options)
    scaled = load(Blobs(), CPU, **options)
    assert (raw.spec.mean, raw.spec.std) == ((0, 0), (1, 1))
    train = raw.splits["train"].values.double()
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    assert scaled.spec.mean == pytest.approx(mean.tolist())
    assert scaled.spec.std == pytest.approx(std.tolist())
    for name, split in scaled.splits.items():
        assert split.values.dtype == torch.float32
        assert torch.allclose(split.values, ((raw.splits[name].values - mean) / std).float(), atol=1e-6)
        assert torch.equal(split.labels, raw.splits[name].labels)
    assert scaled.splits["train"].values.mean(dim=0).abs().max() < 1e-6
    assert scaled.splits["test"].values.mean(dim=0).abs().max() > 1e-3


def test_reading_twice_does_not_scale_twice(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    files = TableFiles(tmp_path / "t.csv", test_path=tmp_path / "t.csv")
    first, second = (load(Table(files), CPU) for _ in range(2))
    assert torch.equal(first.splits["train"].values, second.splits["train"].values)
    trained, tested = (first.splits[name].values.flatten().sort().values for name in ("train", "test"))
    assert torch.equal(trained, tested)


def test_blobs_are_1000_points_in_three_clouds_always_the_same():
    spec = Blobs().spec()
    first, second = (load(Blobs(), CPU, standardise=False, seed=seed) for seed in (0, 1))
    for name, samples in (("train", spec.train_samples), ("test", spec.test_samples)):
        assert first.splits[name].values.shape == (samples, 2)
        one, other = (data.splits[name] for data in (first, second))
        assert torch.equal(one.values[one.samples.argsort()], other.values[other.samples.argsort()])
        assert torch.bincount(first.splits[name].labels).min() > 100
    assert len(torch.unique(torch.cat([split.values for split in first.splits.values()]), dim=0)) == 1000


def test_balanced_class_weights_make_all_classes_count_the_same():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = class_weights(labels, 3, "balanced")
    assert (weights * torch.bincount(labels)).tolist() == pytest.approx([10 / 3] * 3)
    assert float(weights[labels].mean()) == pytest.approx(1)
    assert class_weights(labels, 3, [1, 2, 3]).tolist() == [1, 2, 3]
    assert class_weights(labels, 3, None) is None


# Through train.py


def test_a_run_on_a_fold_is_scored_on_it(trained):
    (first, _) = results_of(
        trained(epochs=1, **{"dataset.folds": 3, "dataset.fold": 2, "dataset.labelled": 0.5, "batch_size": 50})
    )["blocks"]
    hits = first["validation"]["top1"] * 479 / 100
    assert hits == pytest.approx(round(hits))
