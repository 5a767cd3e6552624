"""Test images that show what depth is good for: early heads miss them and later ones get them right.

Of a network with one head they are images that it misses.

They are kept in the run folder as a run completes, so that a report can be made later and elsewhere, without
the data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from layerwise.core.files import DamagedFile, load_tree, save_tree
from layerwise.data.dataset import Dataset
from layerwise.runs.finished import FinishedStage, valid_depths
from layerwise.training.plan import Stage

SAMPLES = "samples.safetensors"
KEPT = 24
LARGEST_SIDE = 96
"""In pixels; larger images are reduced to it."""


@dataclass(frozen=True)
class Samples:
    """n images with what each of D depths says of them.

    Attributes:
        images: [n, H, W, C] uint8.
        labels: [n] int64.
        numbers: [n] int64, of the images in the test split.
        depths: that predict, ascending.
        predicted: [D, n] int64, classes.
        confidence: [D, n] float32, their probabilities.
    """

    images: Tensor
    labels: Tensor
    numbers: Tensor
    depths: Sequence[int]
    predicted: Tensor
    confidence: Tensor


def choose(predicted: Tensor, labels: Tensor, most: int) -> Tensor:
    """Samples that the first depths miss and the last ones get right.

    Args:
        predicted: [D, N] classes, the shallowest depth first.
        labels: [N] int64.
        most: number of samples; there may be fewer.

    Returns:
        [n] positions: those that are learned late first, taking turns among the depths that learn them.
    """
    wrong = predicted != labels
    # where a sample is learned: behind the last depth that misses it
    learned = torch.where(wrong, torch.arange(1, len(wrong) + 1)[:, None], 0).amax(dim=0)
    groups = [(learned == position).nonzero().flatten().tolist() for position in range(len(wrong) - 1, 0, -1)]
    turns = [(turn, late, sample) for late, group in enumerate(groups) for turn, sample in enumerate(group[:most])]
    return torch.tensor([sample for _, _, sample in sorted(turns)[:most]], dtype=torch.int64)


def missed(wrong: Tensor, confidence: Tensor, most: int) -> Tensor:
    """Samples that one classifier gets wrong, the most confident answers first.

    Args:
        wrong: [N] bool.
        confidence: [N].

    Returns:
        [n] positions.
    """
    return confidence.where(wrong, -1.0).sort(descending=True, stable=True).indices[: min(most, int(wrong.sum()))]


def keep_samples(folder: Path, data: Dataset, stages: Sequence[Stage], finished: Sequence[FinishedStage]) -> None:
    """Writes `SAMPLES` into a run folder, if the data are images and there is something to show.

    Args:
        data: of the main process, which looks among the images that it holds.

    Raises:
        LayerwiseError: the file cannot be written.
    """
    latest = {depth: z for outcome in finished for depth, z in outcome.scores.get("test", {}).items()}
    scores = {depth: latest[depth] for depth in valid_depths(stages, "labels") if depth in latest}
    if not data.spec.has_images or data.spec.shape[0] not in (1, 3) or not scores:
        return
    numbers = data.shards["test"].positions(len(data.labels["test"]))
    labels = data.labels["test"].cpu()[numbers]
    confidence, predicted = _predictions({depth: z[numbers] for depth, z in scores.items()})
    several = len(scores) > 1
    chosen = choose(predicted, labels, KEPT) if several else missed(predicted[0] != labels, confidence[0], KEPT)
    if not len(chosen):
        return
    (images,) = data.splits["test"].read([chosen.to(data.device)])
    tree = {
        "images": _reduced(images.cpu()),
        "labels": labels[chosen],
        "numbers": numbers[chosen],
        "depths": list(scores),
        "predicted": predicted[:, chosen],
        "confidence": confidence[:, chosen],
    }
    save_tree(folder / SAMPLES, tree, makes_folder=False)


def read_samples(folder: Path) -> Samples | None:
    """What `keep_samples` wrote; None where there is nothing that can be read."""
    try:
        return Samples(**load_tree(folder / SAMPLES))
    except (FileNotFoundError, DamagedFile, TypeError):
        return None


def _predictions(scores: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
    """[D, N] confidences and classes of the scores [N, c] of D depths."""
    best = [z.float().softmax(dim=1).max(dim=1) for z in scores.values()]
    return torch.stack([values for values, _ in best]), torch.stack([classes for _, classes in best])


def _reduced(images: Tensor) -> Tensor:
    """[n, H, W, C] uint8 with sides of at most `LARGEST_SIDE`."""
    factor = LARGEST_SIDE / max(images.shape[1:3])
    if factor >= 1:
        return images
    size = [round(side * factor) for side in images.shape[1:3]]
    small = interpolate(images.permute(0, 3, 1, 2).float(), size, mode="area")
    return small.round().to(torch.uint8).permute(0, 2, 3, 1)


def caption(samples: Samples, i: int, classes: Sequence[str]) -> str:
    """Returns `image 7 of class 3; depth 1: 9, depth 2: 3` for sample i."""
    answers = [f"depth {depth}: {classes[int(samples.predicted[d, i])]}" for d, depth in enumerate(samples.depths)]
    return f"image {int(samples.numbers[i])} of class {classes[int(samples.labels[i])]}; {', '.join(answers)}"


TILE, LINE = 96, 13
"""Pixels of a captioned image's side, and of a line of its caption."""


def captioned(samples: Samples, i: int, classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Returns sample i with its class, and each depth's answer below it, [H, TILE, 3] uint8."""
    pixels = samples.images[i].numpy()
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).convert("RGB")
    answers = [f"{depth}: {classes[int(samples.predicted[d, i])]}" for d, depth in enumerate(samples.depths)]
    lines = [classes[int(samples.labels[i])], *answers]
    sheet = Image.new("RGB", (TILE, TILE + LINE * len(lines)), "white")
    sheet.paste(picture.resize((TILE, TILE), Image.Resampling.NEAREST))
    for number, line in enumerate(lines):
        right = number == 0 or int(samples.predicted[number - 1, i]) == int(samples.labels[i])
        colour = "black" if number == 0 else "#00663d" if right else "#a8360a"
        ImageDraw.Draw(sheet).text((2, TILE + LINE * number), line, fill=colour)
    return np.asarray(sheet)
