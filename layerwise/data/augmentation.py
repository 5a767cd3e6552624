"""The augmentation that was asked for: what of it a data set can have, and the steps that do it."""

from __future__ import annotations

from dataclasses import replace

import torch

from layerwise.core.errors import LayerwiseError
from layerwise.core.shard import Shard
from layerwise.data.augment import Augmentation, CropFlip, Cutout, Erasing, InTurn
from layerwise.data.choices import Border, Flip
from layerwise.data.dataset import DatasetSpec
from layerwise.data.mixing import Mixing


def augmented(
    spec: DatasetSpec,
    flip: Flip,
    cutout: int,
    padding: int | None = None,
    border: Border = Border.black,
    *,
    erasing: float = 0.0,
    randaugment: int = 0,
    randaugment_ops: int = 2,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> DatasetSpec:
    """The spec with an augmentation of training images that was asked for.

    Args:
        spec: from `describe`.
        flip: `random` leaves it to the spec whether there is one: a mirrored digit is another sign.
        cutout: side of the painted square in pixels; 0 for none.
        padding: most pixels that a crop is shifted by; None for the data set's own.
        border: pixels beyond the image.
        erasing: probability that a random rectangle is painted over.
        randaugment: magnitude of RandAugment's operations, 1 … 30; 0 for none.
        randaugment_ops: how many of them each image goes through.
        mixup, cutmix: α of the Beta distribution that shares are drawn from; 0 for none.

    Raises:
        LayerwiseError: the samples cannot be augmented so.
    """
    asked = [f"dataset.flip={flip.value}"] * (flip is not Flip.random) + [f"dataset.cutout={cutout}"] * (cutout > 0)
    asked += [f"dataset.padding={padding}"] * (padding is not None)
    asked += [f"dataset.border={border.value}"] * (border is not Border.black)
    anywhere = {"erasing": erasing, "randaugment": randaugment, "mixup": mixup, "cutmix": cutmix}
    also = [f"dataset.{name}={value:g}" for name, value in anywhere.items() if value]
    if not asked and not also:
        return spec
    if not spec.has_images:
        raise LayerwiseError(
            f"{(asked + also)[0]}: is for images; a sample of dataset={spec.name} is a vector. Leave it out."
        )
    if randaugment and spec.shape[0] not in (1, 3):
        raise LayerwiseError(
            f"dataset.randaugment={randaugment}: is for grey and colour images; those of dataset={spec.name} have "
            f"{spec.shape[0]} channels. Leave it out."
        )
    spec = replace(spec, erasing=erasing, randaugment=randaugment, mixup=mixup, cutmix=cutmix)
    spec = replace(spec, randaugment_ops=randaugment_ops if randaugment else 0)
    if not asked:
        return spec
    if spec.resized_crop:
        raise LayerwiseError(
            f"{asked[0]}: training images of dataset={spec.name} are random resized crops, which are mirrored at "
            "random while they are decoded. Leave it out."
        )
    if cutout >= (side := min(spec.shape[1:])):
        raise LayerwiseError(
            f"dataset.cutout={cutout}: can cover a whole image of {side} pixels. Use {side - 1} or less; half of the "
            "side is usual."
        )
    padding = spec.padding if padding is None else padding
    if padding >= min(spec.shape[1:]):
        raise LayerwiseError(
            f"dataset.padding={padding}: must be less than the {min(spec.shape[1:])} pixels of an image's side."
        )
    if flip is Flip.alternating:
        check_mirrors(spec, "dataset.flip=alternating")
    return replace(
        spec,
        flip=spec.flip and flip is not Flip.none,
        alternating=flip is Flip.alternating,
        cutout=cutout,
        padding=padding,
        reflect=border is Border.reflect,
    )


def check_mirrors(spec: DatasetSpec, option: str) -> None:
    """Refuses an option for samples that have no mirror images of the same class.

    Raises:
        LayerwiseError: names the option and the data set.
    """
    if not spec.has_images:
        raise LayerwiseError(f"{option}: is for images; a sample of dataset={spec.name} is a vector. Leave it out.")
    if not spec.flip:
        raise LayerwiseError(
            f"{option}: images of dataset={spec.name} are not mirrored, since that would change what they show. "
            "Leave it out."
        )


def augmentation_of(spec: DatasetSpec, device: torch.device) -> Augmentation | None:
    """Returns what is done to training images on the device; None where there is nothing to do."""
    if not spec.augmented:
        return None
    grey_levels = [round(255 * mean) for mean in spec.mean]  # nearest to what is scaled to 0
    colour = torch.tensor(grey_levels, dtype=torch.uint8, device=device)
    cutout = Cutout(spec.cutout, colour) if spec.cutout else None
    crops = not spec.resized_crop and (spec.padding > 0 or spec.flip or spec.cutout > 0)
    if not spec.randaugment and not spec.erasing:
        return CropFlip(spec.padding, spec.flip, cutout, spec.reflect) if crops else None
    steps: list[Augmentation] = [CropFlip(spec.padding, spec.flip, None, spec.reflect)] if crops else []
    if spec.randaugment:
        from layerwise.data.randaugment import RandAugment  # with torchvision, which is slow to import

        steps.append(RandAugment(spec.randaugment, spec.randaugment_ops))
    steps += [] if cutout is None else [cutout]
    steps += [Erasing(spec.erasing, colour)] if spec.erasing else []
    return InTurn(steps)


def mixing_of(spec: DatasetSpec, batch_size: int, seed: int, shard: Shard) -> Mixing | None:
    """Returns how training images are mixed; None where they are not."""
    if not spec.mixup and not spec.cutmix:
        return None
    return Mixing(spec.mixup, spec.cutmix, len(spec.classes), batch_size // shard.ranks, seed, shard)
