"""The crop-and-flip augmentation: exact, and a function of (seed, view, sample) alone."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from helpers.configs import configured
from helpers.data import CPU, tiny_spec
from layerwise.config import build
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import below, bits, key
from layerwise.data.augment import CropFlip, Cutout, alternate_flips, shift_and_mirror
from layerwise.data.augmentation import augmented
from layerwise.data.choices import Flip
from layerwise.data.dataset import Dataset, Resident
from layerwise.data.factory import load
from layerwise.data.toy import DIGITS, Digits


def reference(image: torch.Tensor, down: int, right: int, mirrored: bool, padding: int) -> torch.Tensor:
    """One image [H, W, C] as torchvision would do it: pad, crop at an offset, flip."""
    height, width, _ = image.shape
    padded = F.pad(image.permute(2, 0, 1), (padding,) * 4)
    crop = padded[:, padding + down : padding + down + height, padding + right : padding + right + width]
    return (crop.flip(2) if mirrored else crop).permute(1, 2, 0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_all_81_offsets_equal_pad_crop_flip(mirrored):
    image = torch.randint(1, 256, (32, 32, 3), dtype=torch.uint8)
    offsets = [(down, right) for down in range(-4, 5) for right in range(-4, 5)]
    down, right = (torch.tensor(values) for values in zip(*offsets, strict=True))
    batch = image.expand(81, -1, -1, -1)
    out = shift_and_mirror(batch, down, right, torch.full((81,), mirrored))
    for i, (d, r) in enumerate(offsets):
        assert torch.equal(out[i], reference(image, d, r, mirrored, padding=4))


def test_all_offsets_and_both_flips_are_drawn_equally_often():
    n = 81 * 2 * 200
    marker = torch.zeros(n, 9, 9, 1, dtype=torch.uint8)
    marker[:, 4, 3] = 1  # seen at (4 − down, 3 − right), mirrored to 8 − (3 − right)
    out = CropFlip(padding=4, flip=False)(marker, bits(key("augment", 0, 0), torch.arange(n)))
    rows, columns = out.amax(2).argmax(1).flatten(), out.amax(1).argmax(1).flatten()
    visible = out.flatten(1).amax(1) > 0
    counts = torch.bincount((rows * 9 + columns)[visible], minlength=81).view(9, 9)
    assert (counts[:, :8] > 300).all()  # 400 expected; column 8 would need right = −5
    assert (counts[:, :8] < 500).all()
    flips = CropFlip(padding=0, flip=True)(marker, bits(key("augment", 0, 0), torch.arange(n)))
    assert abs(flips[:, 4, 5, 0].float().mean().item() - 0.5) < 0.01


def test_without_padding_and_flip_images_stay():
    images = torch.randint(0, 256, (5, 7, 6, 1), dtype=torch.uint8)
    assert torch.equal(CropFlip(padding=0, flip=False)(images, torch.arange(5) * 12345), images)


def data_of(images: torch.Tensor, seed: int = 0) -> Dataset:
    spec = tiny_spec()
    split = Resident(images, torch.zeros(len(images), dtype=torch.long), CPU)
    return Dataset(spec, {"train": split, "test": split}, CropFlip(spec.padding, spec.flip), seed, CPU)


def test_an_image_is_the_same_for_the_same_seed_view_and_sample_in_any_batch():
    images = torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8)
    data = data_of(images)
    in_order = torch.cat([b.inputs for b in data.batches("train", torch.arange(50), 50, view=3)])
    order = torch.randperm(50)
    shuffled = torch.cat([b.inputs for b in data.batches("train", order, 7, view=3)])
    assert torch.equal(shuffled, in_order[order])
    other_view = next(iter(data.batches("train", torch.arange(50), 50, view=4))).inputs
    other_seed = next(iter(data_of(images, seed=1).batches("train", torch.arange(50), 50, view=3))).inputs
    assert not torch.equal(other_view, in_order)
    assert not torch.equal(other_seed, in_order)


def test_a_subset_sees_the_same_augmented_images_as_the_whole():
    data = data_of(torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8))
    whole = next(iter(data.batches("train", torch.tensor([5, 40]), 2, view=1))).inputs
    data.splits["train"] = data.splits["train"].take(torch.tensor([40, 5]))
    subset = next(iter(data.batches("train", torch.tensor([1, 0]), 2, view=1))).inputs
    assert torch.equal(subset, whole)


def test_normalisation_is_the_textbooks_and_channels_last():
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    data = data_of(images)
    x = data.prepare(images)
    torch.testing.assert_close(x, (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_an_alternating_flip_turns_over_from_view_to_view():
    images = torch.randint(0, 256, (200, 8, 8, 3), dtype=torch.uint8)
    split = Resident(images, torch.zeros(200, dtype=torch.long), CPU)
    spec = replace(tiny_spec(), padding=0, alternating=True)
    data = Dataset(spec, {"train": split, "test": split}, CropFlip(0, flip=True), 0, CPU)
    views = [next(iter(data.batches("train", torch.arange(200), 200, view))).inputs for view in range(4)]
    plain = data.prepare(images)
    mirrored = torch.tensor([torch.equal(seen, image.flip(2)) for seen, image in zip(views[0], plain, strict=True)])
    assert 70 < int(mirrored.sum()) < 130  # each image has its own first side
    assert torch.equal(views[0], torch.where(mirrored[:, None, None, None], plain.flip(3), plain))
    assert torch.equal(views[1], views[0].flip(3))
    assert torch.equal(views[2], views[0])
    assert torch.equal(views[3], views[1])


def test_an_alternating_flip_leaves_the_crops_as_they_are():
    data = data_of(torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8))
    draws = data._draws(3, torch.arange(50))
    alternating = alternate_flips(draws, 0, 3, torch.arange(50))
    for lane in (0, 1):
        assert torch.equal(below(draws, 5, lane), below(alternating, 5, lane))
    assert not torch.equal(below(draws, 2, 2), below(alternating, 2, 2))


@pytest.mark.parametrize("side", [1, 3, 4])
def test_a_cutout_is_a_square_around_any_pixel_and_is_clipped_at_the_border(side):
    n, size = 20_000, 8
    out = Cutout(side, colour=torch.tensor([7, 9], dtype=torch.uint8))(
        torch.zeros(n, size, size, 2, dtype=torch.uint8), bits(1, torch.arange(n))
    )
    assert set(out[..., 0].unique().tolist()) == {0, 7}
    assert torch.equal(out[..., 0] == 7, out[..., 1] == 9)
    painted = out[..., 0] == 7
    rows, columns = painted.any(2).sum(1), painted.any(1).sum(1)
    assert torch.equal(painted.sum((1, 2)), rows * columns)  # a rectangle
    assert int(rows.max()) == int(columns.max()) == side
    expected = [max(0, min(size, c - side // 2 + side) - max(0, c - side // 2)) for c in range(size)]
    for share in (rows, columns):
        assert share.double().mean() == pytest.approx(sum(expected) / size, rel=0.02)


def test_a_cutout_is_the_mean_after_scaling_and_in_training_only():
    spec = replace(DIGITS, padding=0)
    data = load(Digits(), CPU, spec=augmented(spec, Flip.random, cutout=4))
    order = torch.arange(100)
    plain, view = (next(iter(data.batches("train", order, 100, view))).inputs for view in (None, 0))
    changed = view != plain
    assert 0 < int(changed.sum()) <= 100 * 16
    assert view[changed].unique().numel() == 1
    assert abs(float(view[changed][0])) < 0.01  # half a grey level
    assert data.augmented


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (
            {"dataset": "blobs", "model": "mlp", "+dataset.cutout": 2},
            "dataset.cutout=2: dataset=blobs has no such option, which is of dataset=cifar10, .* or own",
        ),
        ({"dataset": "imagenette", "dataset.cutout": 2}, "decoded"),
        ({"dataset": "svhn", "dataset.flip": "alternating"}, "are not mirrored"),
        ({"dataset.cutout": 2, "dataset.augment": "false"}, "it needs dataset.augment=true"),
        ({"dataset.cutout": -1}, "0 or more"),
        ({"dataset": "digits", "dataset.cutout": 8}, "can cover a whole image of 8 pixels. Use 7 or less"),
    ],
)
def test_what_cannot_be_augmented_is_refused(overrides, word):
    with pytest.raises(LayerwiseError, match=word):
        build.build_spec(configured(*(f"{name}={value}" for name, value in overrides.items())))
