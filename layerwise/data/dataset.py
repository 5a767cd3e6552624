"""A data set on the device: batched gathers, augmentation and scaling there.

Images are uint8 pixels; vectors (of tables) are float32 and scaled once, when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from layerwise.core.compiling import compile_for
from layerwise.core.randomness import bits, key
from layerwise.core.shard import EVERYTHING, Shard
from layerwise.core.types import Batch, Shape, Target
from layerwise.data.augment import Augmentation, alternate_flips
from layerwise.data.fingerprint import may_agree
from layerwise.data.mixing import Mixing

SplitName = Literal["train", "validation", "test"]

Shards = Mapping[SplitName, Shard]
WHOLE: Shards = {"train": EVERYTHING, "validation": EVERYTHING, "test": EVERYTHING}
"""A process that holds everything."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before it is read.

    Attributes:
        shape: (C, H, W) of an image, or (F,) of a vector.
        mean, std: per channel, of pixel values in [0, 1]; of a vector, per feature. Empty where they are
            computed from the training samples.
        padding: of the random crop in training; 0 for none.
        reflect: the padding mirrors the image; else it is black.
        flip: whether half of the views of a training image are mirrored.
        alternating: these are every second one, and not drawn at random.
        cutout: side in pixels of the square that is painted over training images; 0 for none.
        erasing: probability that a rectangle is painted over a training image.
        randaugment, randaugment_ops: magnitude and number of RandAugment's operations; 0 for none.
        mixup, cutmix: α of the shares by which training images are mixed; 0 for none.
        resized_crop: training images are random resized crops, made while they are decoded.
        digest: of a table's values and labels, or of the names, sizes and times of a folder's images; of other samples
            in memory empty until they are read.
        preparation: how image files were changed before they were stored as records, in words; empty if not.
        exif: image files are turned as their EXIF orientations say.
        squashed: images of other proportions were resized to these, without a cut.
        columns: of a table, by feature column in order: None for numbers, or its categories, which are one-hot.
        fill: of a table, what takes the place of missing numbers, per feature; empty like `mean`.
        title: what reports call it: of a table the name of its file, of a folder of images its own; empty for `name`.
        target: of a table with real-valued targets, the name of their column; it has no classes.
        target_scale: their mean and deviation over the training samples; empty like `mean`.
        notes: of a table, what was done to its columns, in words.
    """

    name: str
    shape: Shape
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_samples: int
    test_samples: int
    padding: int = 0
    reflect: bool = False
    flip: bool = False
    alternating: bool = False
    cutout: int = 0
    resized_crop: bool = False
    digest: str = ""
    preparation: str = ""
    exif: bool = False
    squashed: bool = False
    columns: dict[str, list[str] | None] | None = None
    fill: tuple[float, ...] = ()
    title: str = ""
    notes: tuple[str, ...] = ()
    target: str = ""
    target_scale: tuple[float, ...] = ()
    erasing: float = 0.0
    randaugment: int = 0
    randaugment_ops: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def outputs(self) -> int:
        """How many values a head gives: a score of each class, or the target."""
        return 1 if self.target else len(self.classes)

    @property
    def has_images(self) -> bool:
        """Whether samples are images and not vectors."""
        return len(self.shape) == 3

    @property
    def augmented(self) -> bool:
        """Whether views of a training image differ."""
        drawn = self.erasing > 0 or self.randaugment > 0 or self.mixup > 0 or self.cutmix > 0
        return self.padding > 0 or self.flip or self.cutout > 0 or self.resized_crop or drawn

    def agrees_with(self, other: DatasetSpec) -> bool:
        """Whether both may describe the same data. Names do not count, nor what one of them does not know yet.

        Older runs on CIFAR-100 know its classes by their numbers.
        """
        unknown: dict[str, Any] = {"mean": (), "std": (), "fill": (), "digest": "", "columns": None, "title": ""}
        unknown |= {"notes": (), "target_scale": (), "squashed": False}
        if {self.name, other.name} == {"cifar100"}:
            unknown["classes"] = ()
        mine, others = (replace(spec, **unknown) for spec in (self, other))
        return mine == others and may_agree(self.digest, other.digest)

    def in_words(self) -> str:
        """Samples, shape and labels, such as `500 + 500 samples of 2, 3 classes`, and what else tells data apart."""
        size = "×".join(map(str, self.shape))
        content = f", content {self.digest}" if self.digest else ""
        content += f", images of {self.preparation}" if self.preparation else ""
        labels = f"target '{self.target}'" if self.target else f"{len(self.classes)} classes"
        return f"{self.train_samples} + {self.test_samples} samples of {size}, {labels}{content}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> DatasetSpec:
        """What `to_json` gave."""
        values: dict[str, Any] = json.loads(text)
        tuples: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**tuples)


def scaled_rows(values: Tensor, spec: DatasetSpec) -> Tensor:
    """Returns vectors float32 [B, F] as a network takes them: missing numbers filled, centred in float64, scaled.

    Args:
        values: [B, F] with NaN for missing numbers.
    """
    return scaled_exactly(values, spec).float()


def scaled_exactly(values: Tensor, spec: DatasetSpec) -> Tensor:
    """As `scaled_rows`, in float64."""
    mean, std, fill = (
        torch.tensor(v, dtype=torch.float64, device=values.device) for v in (spec.mean, spec.std, spec.fill)
    )
    if len(fill):
        values = torch.where(values.isnan(), fill, values)
    return (values - mean) / std


def merged_by_float32(values: Tensor) -> Tensor:
    """Returns [F], which features of values float64 [N, F] lose a thousandth of their deviation or more in float32."""
    lost = (values.float() - values).abs().amax(dim=0)
    spread = values.std(dim=0, correction=0)
    return (lost > 1e-3 * spread) & (spread > 1e-12 * values.abs().amax(dim=0))


class Split(Protocol):
    """Samples of one split, wherever they lie."""

    labels: Tensor  # [N] int64, or float32 of real-valued targets, on the device
    samples: Tensor  # [N] int64, on the device: numbers in the full data set, which key the augmentation

    def __len__(self) -> int: ...

    def take(self, positions: Tensor) -> Split:
        """The split that holds the samples at some positions, in that order."""

    def read(self, batches: Sequence[Tensor], view: int | None = None) -> Iterator[Tensor]:
        """For each tensor of positions [B], the images uint8 [B, H, W, C] or vectors [B, F] on the device.

        Args:
            view: of the augmentation, where a split augments while it decodes; None for none.
        """


class Resident:
    """A split held whole on the device, so that a batch is one gather.

    Args:
        values: images [N, H, W, C] uint8, or vectors [N, F] float32.
        labels: [N] int64, or real-valued targets.
        samples: numbers of the samples in the full data set; 0 … N−1 by default.
    """

    def __init__(self, values: Tensor, labels: Tensor, device: torch.device, samples: Tensor | None = None) -> None:
        self.values = values.to(device)
        self.labels = labels.to(device)
        self.samples = torch.arange(len(labels), device=device) if samples is None else samples
        self.device = device

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Tensor) -> Resident:
        positions = positions.to(self.device)
        return Resident(self.values[positions], self.labels[positions], self.device, self.samples[positions])

    def read(self, batches: Sequence[Tensor], view: int | None = None) -> Iterator[Tensor]:
        for positions in batches:
            yield self.values.index_select(0, positions)


@dataclass(frozen=True, eq=False)
class Scaling:
    """Pixels as a network takes them: x·scale + shift, per channel.

    Attributes:
        scale, shift: [C], on the images' device.
    """

    scale: Tensor
    shift: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """Args: pixels: uint8 [B, H, W, C]. Returns: float32 [B, C, H, W], channels_last."""
        return (pixels.float().mul_(self.scale).add_(self.shift)).permute(0, 3, 1, 2)


class Dataset:
    """Train, test and (where held out) validation samples, and how a batch of them is prepared.

    Args:
        splits: "train", "test" and perhaps "validation", whole; those of which a process keeps a part are in the
            order of which it takes every N-th sample.
        augment: random crop, flip and so on of training images on the device; None where there is none, or where
            the splits augment while they decode.
        labelled: only so many training samples, the first, have labels that may be used; None for all.
        augmented: whether views of a training sample differ, wherever that is done.
        compiled_for: size of the batches whose augmentation and scaling go through torch.compile, which on a GPU makes
            one kernel of some thirty; None: for none.
        mixing: how training images are mixed with others; None: not.

    Attributes:
        labels: [N] of all samples of each split, also of those that other processes hold.
        class_weights: float32 [c], factors of the training loss by class; None for equal ones.
        listing: of samples in memory, the lines of `data.fingerprint`; empty for others.
    """

    class_weights: Tensor | None = None
    listing: str = ""

    def __init__(
        self,
        spec: DatasetSpec,
        splits: dict[SplitName, Split],
        augment: Augmentation | None,
        seed: int,
        device: torch.device,
        labelled: int | None = None,
        augmented: bool = True,
        shards: Shards = WHOLE,
        compiled_for: int | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        self.labels = {name: split.labels for name, split in splits.items()}
        self.shards = shards
        if shards != WHOLE:
            splits = {name: split.take(shards[name].positions(len(split), device)) for name, split in splits.items()}
        self.spec = spec
        self.splits = splits
        self.augment = augment
        self.seed = seed
        self.device = device
        self.labelled = labelled
        self.augmented = augmented
        mean, std = (torch.tensor(v, device=device).view(-1) for v in (spec.mean, spec.std))
        self._scaling = scaling = Scaling(1 / (255 * std), -mean / std)  # (x/255 − mean) / std
        self.mixing = mixing
        if augment is not None:
            if spec.randaugment:  # it chooses operations by values on the device
                compiled_for = None
            elif mixing is not None and compiled_for is not None:
                compiled_for *= 2
            self._view = compile_for(compiled_for, lambda pixels, draws: scaling(augment(pixels, draws)))

    def having(self, target: Target) -> int:
        """How many training samples, the first, have a target: all have inputs, perhaps not all a label."""
        return self.labelled if target == "labels" and self.labelled is not None else len(self.labels["train"])

    def having_here(self, target: Target) -> int:
        """How many of these this process holds; they are its first."""
        return self.shards["train"].size(self.having(target))

    def batches(
        self, split: SplitName, order: Tensor, batch_size: int, view: int | None = None, mirrored: bool = False
    ) -> Iterator[Batch]:
        """Batches of scaled samples and their `targets`.

        Args:
            order: [n] positions in the split, on the device; the last batch may be smaller.
            view: augments with the draws of this view; None leaves the samples as they are.
        """
        samples, mixing = self.splits[split], None if view is None else self.mixing
        parts: Sequence[Tensor] = order.split(batch_size)
        if view is not None and mixing is not None:  # partners come behind their batch
            partners = mixing.partners(view, len(samples), self.device)
            parts = [torch.cat([positions, partners[positions]]) for positions in parts]
        for positions, values in zip(parts, samples.read(parts, view), strict=True):
            if self.augment is not None and view is not None:
                inputs = self._view(values, self._draws(view, samples.samples[positions]))
            else:
                inputs = self.prepare(values.flip(2) if mirrored else values)  # [B, H, W, C]
            if view is not None and mixing is not None:
                positions = positions[: len(positions) // 2]
                images, others = inputs.chunk(2)
                inputs = mixing.mixed(images, others, view, samples.samples[positions])
            yield Batch(inputs, self.targets(split, positions, view))

    def targets(self, split: SplitName, positions: Tensor, view: int | None) -> Tensor:
        """The labels [B] of the samples at some positions, or shares of the classes float32 [B, c] of mixed images."""
        samples = self.splits[split]
        labels = samples.labels[positions]
        if view is None or self.mixing is None:
            return labels
        partners = self.mixing.partners(view, len(samples), self.device)[positions]
        height, width = self.spec.shape[1:]
        return self.mixing.shares(labels, samples.labels[partners], view, samples.samples[positions], height, width)

    def within_unit_interval(self) -> bool:
        """Whether all inputs are in [0, 1]: images that are not standardised, and perhaps a table."""
        if self.spec.has_images:
            return set(self.spec.mean) == {0.0} and set(self.spec.std) == {1.0}
        values = torch.cat([torch.cat(list(split.read([torch.arange(len(split))]))) for split in self.splits.values()])
        return bool((values >= 0).all() and (values <= 1).all())

    def prepare(self, values: Tensor) -> Tensor:
        """Images uint8 [B, H, W, C] → float32 [B, C, H, W] in channels_last, scaled; vectors [B, F] as they are."""
        return values if values.dim() == 2 else self._scaling(values)

    def _draws(self, view: int, samples: Tensor) -> Tensor:
        """[B] random bits that depend on nothing but the seed, the view and the sample."""
        draws = bits(key("augment", self.seed, view), samples)
        return alternate_flips(draws, self.seed, view, samples) if self.spec.alternating else draws
