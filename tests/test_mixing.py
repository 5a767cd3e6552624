"""mixup, cutmix, random erasing and RandAugment: what they are, and that they depend on seed, view and sample alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from helpers.commands import assert_refused
from helpers.data import CPU
from helpers.networks import tiny_net
from helpers.run_folders import metrics_of, results_of
from helpers.training import FP32, PLAN, train, trainer_of
from layerwise.core.interrupt import StopRequest
from layerwise.core.randomness import bits, key
from layerwise.core.shard import Shard
from layerwise.data.augment import Erasing
from layerwise.data.augmentation import augmentation_of, augmented
from layerwise.data.choices import Flip
from layerwise.data.dataset import Dataset
from layerwise.data.factory import load
from layerwise.data.mixing import Mixing, beta_quantiles
from layerwise.data.randaugment import SIGNED, UNSIGNED, RandAugment
from layerwise.data.toy import BLOBS, DIGITS, Digits
from layerwise.features.batches import BatchPlan
from layerwise.features.choices import FeatureDtype
from layerwise.features.codec import FeatureCodec
from layerwise.features.sources import Cached, Recompute
from layerwise.features.store import FeatureStores
from layerwise.models.blocknet import Readout
from layerwise.training.choices import LOSSES
from layerwise.training.objectives import LocalLoss, class_loss

ALL = {
    "dataset.mixup": 0.4,
    "dataset.cutmix": 1,
    "dataset.erasing": 0.5,
    "dataset.randaugment": 9,
    "dataset.cutout": 2,
    "batch_size": 40,
}
WHOLE = Shard(0, 1)


def mixed(
    data: Dataset, n: int = 70, mixup: float = 0.0, cutmix: float = 0.0, places: int = 16, shard=WHOLE
) -> Dataset:
    """The tiny data, mixed."""
    mixing = Mixing(mixup, cutmix, 3, places, 0, shard)
    shards = {"train": shard, "test": WHOLE}
    return Dataset(data.spec, data.splits, data.augment, 0, CPU, shards=shards, mixing=mixing)


def first(data: Dataset, view: int = 0, order=None):
    order = torch.arange(len(data.splits["train"])) if order is None else order
    return next(iter(data.batches("train", order, len(order), view)))


@pytest.mark.parametrize(("n", "places"), [(70, 16), (64, 16), (33, 16), (100, 7)])
def test_partners_are_a_permutation_that_keeps_the_place_and_no_image_is_its_own(n, places):
    mixing = Mixing(1, 0, 3, places, 0, WHOLE)
    seen = [mixing.partners(view, n, CPU) for view in range(3)]
    for partners in seen:
        assert sorted(partners.tolist()) == list(range(n))
        assert torch.equal(partners % places, torch.arange(n) % places)
        single = torch.arange(n) % places >= n % places if n < 2 * places and n % places else torch.zeros(n).bool()
        assert torch.equal(partners == torch.arange(n), single)
    assert n < 3 * places or not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_pairs_are_the_same_for_any_number_of_processes(ranks):
    n, batch = 70, 16
    whole = Mixing(1, 0, 3, batch, 5, WHOLE).partners(2, n, CPU)
    for rank in range(ranks):
        shard = Shard(rank, ranks)
        own = shard.positions(n, CPU)
        partners = Mixing(1, 0, 3, batch // ranks, 5, shard).partners(2, len(own), CPU)
        assert torch.equal(own[partners], whole[own])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_beta_distribution(alpha):
    table = beta_quantiles(alpha, CPU).double()
    assert table.mean() == pytest.approx(0.5, abs=1e-4)
    assert table.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-2)
    assert bool((table.diff() >= 0).all())
    drawn = torch.distributions.Beta(alpha, alpha).sample((20_000,)).sort().values
    assert drawn[::2000] == pytest.approx(table[:: len(table) // 10][:10], abs=0.03)


def test_mixup_is_the_papers_sum_of_images_and_labels(tiny_data):
    plain, data = first(tiny_data), mixed(tiny_data, mixup=1.0)
    batch = first(data)
    partners = data.mixing.partners(0, 70, CPU)
    assert batch.targets.shape == (70, 3)
    torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(70))
    weight, _ = data.mixing._weights(0, torch.arange(70), 8, 8)
    share = 1 - weight
    assert 0.4 < float(share.mean()) < 0.6
    expected = share[:, None, None, None] * plain.inputs + weight[:, None, None, None] * plain.inputs[partners]
    torch.testing.assert_close(batch.inputs, expected)
    labels = F.one_hot(plain.targets, 3).float()
    torch.testing.assert_close(batch.targets, share[:, None] * labels + weight[:, None] * labels[partners])
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_cutmix_takes_a_rectangle_of_the_partner_and_its_share_of_the_label(tiny_data):
    plain, data = first(tiny_data), mixed(tiny_data, cutmix=1.0)
    batch, partners = first(data), data.mixing.partners(0, 70, CPU)
    _, box = data.mixing._weights(0, torch.arange(70), 8, 8)
    assert torch.equal(batch.inputs, torch.where(box, plain.inputs[partners], plain.inputs))
    painted = box[:, 0]
    assert torch.equal(painted.sum((1, 2)), painted.any(2).sum(1) * painted.any(1).sum(1))
    share = 1 - painted.sum((1, 2)) / 64
    labels = F.one_hot(plain.targets, 3).float()
    torch.testing.assert_close(batch.targets, share[:, None] * labels + (1 - share)[:, None] * labels[partners])


def test_with_both_each_image_goes_through_one_of_them(tiny_data):
    data = mixed(tiny_data, mixup=1.0, cutmix=1.0)
    weight, box = data.mixing._weights(0, torch.arange(2000), 8, 8)
    is_cut = box.any(dim=(1, 2, 3))
    assert not bool((is_cut & (weight > 0)).any())
    assert 800 < int((weight > 0).sum()) < 1200


def test_only_training_views_are_mixed_and_they_depend_on_view_and_sample_alone(tiny_data):
    data = mixed(tiny_data, mixup=1.0, cutmix=1.0)
    assert next(iter(data.batches("train", torch.arange(70), 70))).targets.dtype == torch.int64
    whole, again, other = first(data), first(data), first(data, view=1)
    assert torch.equal(whole.inputs, again.inputs)
    assert not torch.equal(whole.targets, other.targets)
    some = torch.tensor([5, 66, 12])
    alone = first(data, order=some)
    assert torch.equal(alone.inputs, whole.inputs[some])
    assert torch.equal(alone.targets, whole.targets[some])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_the_loss_of_a_mixed_image_is_that_of_both_labels_by_their_shares(name, weights):
    z, a, b = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 2, 1, 1, 1, 0])
    share = torch.tensor([0.3, 0.3, 0.9, 0.5, 0.2, 1.0])
    targets = share[:, None] * F.one_hot(a, 3) + (1 - share)[:, None] * F.one_hot(b, 3)
    single = [[class_loss(name, z[i : i + 1], t[i : i + 1], 0.1, weights) for i in range(6)] for t in (a, b)]
    expected = sum(s * x + (1 - s) * y for s, x, y in zip(share, *single, strict=True)) / 6
    torch.testing.assert_close(class_loss(name, z, targets, 0.1, weights), expected)
    exact = F.one_hot(a, 3).float()
    torch.testing.assert_close(class_loss(name, z, exact, 0.1, weights), class_loss(name, z, a, 0.1, weights))


def test_mixed_images_count_as_correct_by_the_larger_share_and_have_similarities():
    readout = Readout(torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 3.0]]), torch.randn(2, 5))
    targets = torch.tensor([[0.6, 0.4, 0.0], [0.7, 0.0, 0.3]])
    terms = LocalLoss()([readout], targets)
    assert int(terms["counts"]["correct"][0]) == 1
    assert math.isfinite(float(terms["loss"]))


def test_a_cached_view_is_mixed_as_the_recomputed_one(tiny_data):
    data = mixed(tiny_data, mixup=1.0, cutmix=1.0)
    net = tiny_net()
    recompute = Recompute(data, PLAN, FP32, list(net.blocks[:1]))
    stores = FeatureStores(FeatureCodec(FeatureDtype.float32), None)
    cached = Cached(Recompute(data, PLAN, FP32), stores, 2, StopRequest(), list(net.blocks[:1]))
    for epoch in range(2):
        pairs = zip(recompute.train(1, epoch), cached.train(1, epoch), strict=True)
        for here, there in pairs:
            torch.testing.assert_close(there.inputs, here.inputs)
            assert torch.equal(there.targets, here.targets)
    reports = train(trainer_of(net, start=1, stop=2), data, prefix=list(net.blocks[:1]))
    assert all(0 < report.scores[0]["loss"] < 10 for report in reports)


def test_an_erased_rectangle_lies_within_the_image_and_has_the_shares_that_are_asked_for():
    n, side = 20_000, 32
    erasing, draws = Erasing(0.25, torch.tensor([7, 9, 11], dtype=torch.uint8)), bits(1, torch.arange(n))
    out = erasing(torch.zeros(n, side, side, 3, dtype=torch.uint8), draws)
    painted = out[..., 0] == 7
    assert torch.equal(painted, out[..., 2] == 11)
    area = painted.sum((1, 2))
    assert (area > 0).double().mean() == pytest.approx(0.25, abs=0.01)
    rows, columns = painted.any(2).sum(1), painted.any(1).sum(1)
    assert torch.equal(area, rows * columns)
    share = area[area > 0].double() / side**2
    assert 0.015 < float(share.min()) < float(share.max()) < 0.35
    assert share.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.015)
    ratio = (rows.double() / columns)[area > 0].log()
    assert ratio.mean() == pytest.approx(0, abs=0.03)
    top, left, h, w = erasing.boxes(draws[:1], side, side)
    for i in range(50):  # it is torchvision's erase with these boxes
        top, left, h, w = (int(one) for one in erasing.boxes(draws[i : i + 1], side, side))
        alone = torch.zeros(3, side, side, dtype=torch.uint8)
        colour = torch.tensor([7, 9, 11], dtype=torch.uint8)[:, None, None]
        expected = v2.functional.erase(alone, top, left, h, w, colour) if h else alone
        assert torch.equal(out[i].permute(2, 0, 1), expected)


ORDER = ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"]
ORDER += ["Identity", "Posterize", "Solarize", "AutoContrast", "Equalize"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("number", "name"), list(enumerate(ORDER)))
def test_the_operations_and_magnitudes_are_those_of_torchvision(number, name, channels):
    images = torch.randint(0, 256, (5, channels, 16, 12), dtype=torch.uint8)
    theirs = v2.RandAugment()
    magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
    assert signed == (number < len(SIGNED))
    for magnitude in (1, 9, 15, 30):
        found = magnitudes(31, 16, 12)
        value = 0.0 if found is None else float(found[magnitude])
        for sign in (1, -1) if signed else (1,):
            expected = theirs._apply_image_or_video_transform(
                images, name, sign * value, theirs.interpolation, theirs._fill
            )
            ours = (*SIGNED, *UNSIGNED)[number](images, sign * magnitude / 30)
            assert (ours.int() - expected.int()).abs().max() <= 1  # a strength in float32 there


def test_randaugment_is_that_of_a_single_image_whatever_the_batch_and_leaves_generators_alone():
    pixels, draws = torch.randint(0, 256, (64, 12, 16, 3), dtype=torch.uint8), bits(key("draws"), torch.arange(64))
    augment, before = RandAugment(9), torch.get_rng_state()
    out = augment(pixels, draws)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(augment(pixels, draws), out)
    for i in range(64):
        assert torch.equal(augment(pixels[i : i + 1], draws[i : i + 1])[0], out[i])
    changed = (out != pixels).any(dim=3).any(dim=2).any(dim=1)
    assert int(changed.sum()) > 50
    assert out.dtype == torch.uint8
    torch.manual_seed(0)
    theirs = torch.stack([v2.RandAugment()(image.permute(2, 0, 1)).permute(1, 2, 0) for image in pixels])
    unlike = [float((one.float() - pixels.float()).abs().mean()) for one in (out, theirs)]
    assert unlike[0] == pytest.approx(unlike[1], rel=0.5)  # as strong


def test_what_was_asked_for_is_in_the_spec_and_in_training_only():
    spec = augmented(DIGITS, Flip.random, 0, erasing=1.0, randaugment=9, mixup=0.4)
    assert (spec.erasing, spec.randaugment, spec.randaugment_ops, spec.mixup) == (1.0, 9, 2, 0.4)
    assert replace(spec, erasing=0.0, randaugment=0, randaugment_ops=0, mixup=0.0) == DIGITS
    assert type(spec).from_json(spec.to_json()) == spec
    data, bare = load(Digits(), CPU, spec=spec, batch_size=64), load(Digits(), CPU, augment=False)
    order = torch.arange(64)
    assert torch.equal(*(next(iter(d.batches("test", order, 64))).inputs for d in (data, bare)))
    assert data.augmented
    assert not torch.equal(first(data, order=order).inputs, next(iter(bare.batches("train", order, 64))).inputs)


def test_vectors_have_no_augmentation():
    spec = replace(BLOBS, mean=(1e6, -3.0))
    assert augmentation_of(spec, CPU) is None


def test_a_run_with_all_of_them_goes_on_to_the_bit(assert_goes_on_to_the_bit):
    folder = assert_goes_on_to_the_bit(lambda stage, saves: (stage, saves) == (2, 3), cache="disk", **ALL)
    assert results_of(folder)["cache"]["exact"]
    assert results_of(folder)["cache"]["views"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {"plan": "simultaneous"},
        {"plan": "joint", "objective.loss": "squared_error", "dataset.class_weights": "balanced"},
        {"model.head": "predsim", "model.head_width": None, "accumulate": 4},
        {"plan.prune_to": 5, "plan.prune_epochs": 1},
    ],
    ids=str,
)
def test_plans_losses_and_heads_take_mixed_images(trained, options):
    lines = metrics_of(trained(**ALL, **options))
    assert all(0 < line["loss"] < 5 for line in lines)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 101}, ["batch_size=101", "two batches", "batch_size=100"]),
        ({"dataset.labelled": 0.5}, ["dataset.mixup=0.4", "dataset.labelled"]),
        ({"objective._target_": "torch.nn.MultiMarginLoss"}, ["dataset.mixup=0.4", "objective._target_"]),
        ({"dataset.augment": "false", "dataset.cutout": 0}, ["dataset.augment=true"]),
        ({"dataset.randaugment": 31}, ["dataset.randaugment=31", "at most 30"]),
        ({"dataset.erasing": 1.5}, ["dataset.erasing=1.5", "at most 1"]),
        ({"dataset.mixup": -1}, ["dataset.mixup=-1", "0 or more"]),
        ({"dataset.randaugment": 0, "dataset.randaugment_ops": 3}, ["dataset.randaugment_ops=3", "above 0"]),
    ],
    ids=str,
)
def test_what_cannot_be_mixed_is_refused(train_py, options, words):
    assert_refused(train_py(**ALL | options), *words)


def test_an_epoch_of_batches_has_the_targets_of_its_images(tiny_data):
    """Also where batches are read from the plan's order."""
    data = mixed(tiny_data, mixup=1.0)
    plan = BatchPlan(16, seed=0)
    order = plan.order(0, 3, 70, CPU)
    targets = torch.cat([batch.targets for batch in Recompute(data, plan, FP32).train(0, 3)])
    assert torch.equal(targets, data.targets("train", order, 3))
