"""The crop-and-flip augmentation: exact, and a function of (seed, view, sample) alone."""

import pytest
import torch
import torch.nn.functional as F
from conftest import CPU, tiny_spec

from layerwise.counters import bits, key
from layerwise.data.augment import CropFlip, shift_and_mirror
from layerwise.data.dataset import Dataset, Resident


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
