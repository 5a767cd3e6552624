"""Predicting images and rows of tables with a trained network: at each depth, and by the ensemble."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.data.images import imagenet
from layerwise.data.images.decoding import UnreadableImage, decode
from layerwise.data.images.encoded import Cut
from layerwise.data.images.listing import EXTENSIONS, Walk
from layerwise.data.table_columns import Column, encode
from layerwise.data.table_file import TableFiles, read_columns
from layerwise.models.choices import EnsembleOn
from layerwise.models.ensemble import ensemble
from layerwise.runs.loading import TrainedNet

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZE = 64
"""Images that are predicted at a time."""


@dataclass(frozen=True)
class Guess:
    """A class name and its softmax probability, in [0, 1]: the largest of all classes."""

    name: str
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """The predictions for one image.

    Attributes:
        by_depth: of each classifier, by its depth in ascending order.
        ensemble: of the 2^j ensemble of them; with one classifier, its prediction.
    """

    by_depth: dict[int, Guess]
    ensemble: Guess

    @property
    def result(self) -> Guess:
        """The prediction of the last classifier, which is the network's result."""
        return self.by_depth[max(self.by_depth)]


def predict_files(network: TrainedNet, paths: Sequence[Path]) -> list[Prediction]:
    """Predicts image files, after bringing them to the shape of the training images.

    Args:
        network: of a run on images, as `layerwise.load` returns it.

    Raises:
        LayerwiseError: the network reads vectors, or a file cannot be decoded.
    """
    if not network.spec.has_images:
        raise LayerwiseError(
            f"the run was trained on vectors of {network.spec.shape[0]} features (dataset={network.spec.name}), "
            "not on images. Give a file with the columns of its table."
        )
    predictions = []
    for first in range(0, len(paths), BATCH_SIZE):
        images = [read_image(network.spec, path) for path in paths[first : first + BATCH_SIZE]]
        predictions += predict(network, torch.stack(images))
    return predictions


def predict_table(network: TrainedNet, files: TableFiles, path: Path) -> pd.DataFrame:
    """Predicts the rows of a table.

    Args:
        network: of a run on a table.
        files: of that run: which words are missing, what separates cells.
        path: a table with the run's feature columns, in any order and perhaps with others.

    Returns:
        The columns of the file, then `prediction`, `confidence` and `ensemble`, with a number behind a name that the
        file has; of real-valued targets there is no confidence.

    Raises:
        LayerwiseError: the run was not trained on a table, or the file lacks a column or holds text for a number.
    """
    spec = network.spec
    if spec.columns is None:
        raise LayerwiseError(
            f"the run was trained on dataset={spec.name}, or before runs kept the columns of their table. Predict rows "
            "in Python: net = layerwise.load(FOLDER); net(net.normalise(rows))."
        )
    frame = read_columns(files, path)
    rows = encode(path, frame, spec.columns, files)
    for name, categories in spec.columns.items():
        for note in Column(path, frame[name], files).gaps(categories):
            print(f"{path}: {note}", file=sys.stderr)
    if spec.target:
        scores = scores_of(network, rows)
        values = {"prediction": scores[network.depths[-1]], "ensemble": ensemble(scores, network.ensemble_on)}
        made = {name: network.in_units(z).squeeze(1).tolist() for name, z in values.items()}
    else:
        predictions = predict(network, rows)
        made = {
            "prediction": [one.result.name for one in predictions],
            "confidence": [round(one.result.confidence, 6) for one in predictions],
            "ensemble": [one.ensemble.name for one in predictions],
        }
    return frame.assign(**{_free(name, frame): column for name, column in made.items()})


def _free(name: str, frame: pd.DataFrame) -> str:
    """The name, or one with a number behind it where the frame has that column."""
    return next(n for n in chain([name], (f"{name} {i}" for i in count(2))) if n not in frame)


@torch.no_grad()
def scores_of(network: TrainedNet, values: Tensor) -> dict[int, Tensor]:
    """Returns the outputs [B, c] at each depth for samples as `predict` takes them."""
    return network.class_scores(network.normalise(values.to(network.mean.device)), network.depths)


@torch.no_grad()
def predict(network: TrainedNet, values: Tensor) -> list[Prediction]:
    """Predicts samples of the training shape.

    Args:
        network: in eval mode, on any device.
        values: images uint8 [B, C, H, W], or vectors [B, F].
    """
    scores = scores_of(network, values)
    together = ensemble(scores, network.ensemble_on)
    if network.ensemble_on is EnsembleOn.logits:
        together = together.softmax(dim=1)
    by_depth = {depth: guesses(z.float().softmax(dim=1), network.spec.classes) for depth, z in scores.items()}
    return [
        Prediction({depth: of_all[i] for depth, of_all in by_depth.items()}, guess)
        for i, guess in enumerate(guesses(together, network.spec.classes))
    ]


def guesses(probabilities: Tensor, classes: Sequence[str]) -> list[Guess]:
    """The most probable class of each row of [B, c]."""
    confidence, numbers = probabilities.max(dim=1)
    return [Guess(classes[c], p) for c, p in zip(numbers.tolist(), confidence.tolist(), strict=True)]


def read_image(spec: DatasetSpec, path: Path) -> Tensor:
    """Reads an image file at the resolution and in the colours of a data set.

    An image of that size is not changed (ImageNet and Imagenette crop a margin). Others are resized and cropped to the
    centre, or squashed, as the held-out images of the data set. Colours become grey where the data set is.

    Returns:
        uint8 [C, H, W].

    Raises:
        LayerwiseError: the file is absent or cannot be decoded, or the data set has neither grey nor colours.
    """
    if spec.shape[0] not in (1, 3):
        raise LayerwiseError(f"{path}: image files have 1 or 3 channels, and the run was trained on {spec.shape[0]}.")
    try:
        image = decode(str(path), spec.exif)
    except UnreadableImage as error:
        raise LayerwiseError(f"{path} cannot be decoded ({error}). Give image files, such as PNG or JPEG.") from error
    if spec.shape[0] == 1:  # the weights add up to 0.9999: rounded, a grey pixel keeps its value
        image = transforms.rgb_to_grayscale(image.float()).round().byte()
    height, size = spec.shape[1:]
    if spec.squashed or height != size:
        return _resized(image, height, size, squash=spec.squashed)
    cut = imagenet.evaluation_cut(size) if spec.name in imagenet.SETS else Cut(size, short_side=size)
    return cut.centre(image)


def _resized(image: Tensor, height: int, width: int, squash: bool) -> Tensor:
    """An image uint8 [C, H, W] at another size: with other proportions, or cut to the centre."""
    scale = max(height / image.shape[1], width / image.shape[2])
    covering = [height, width] if squash else [round(side * scale) for side in image.shape[1:]]
    resized = transforms.to_pil_image(image).resize(covering[::-1], resample=2)  # as `data.adapters` does
    cut: Tensor = transforms.center_crop(transforms.pil_to_tensor(resized), [height, width])
    return cut


def image_files(path: Path) -> list[Path]:
    """Returns the file itself, or all images below a folder, sorted by name, as training would find them.

    Raises:
        LayerwiseError: the path does not exist, or the folder holds no images.
    """
    if path.is_dir():
        walk = Walk([path])
        if files := walk.images_below(path):
            if left_out := walk.left_out.in_words():
                print(f"{path}: left out: {left_out}", file=sys.stderr)
            return [Path(os.fsdecode(file)) for file in files]
        raise LayerwiseError(f"{path}: the folder holds no images ({', '.join(EXTENSIONS)}).")
    if not path.exists():
        raise LayerwiseError(f"{path}: no such file or folder.")
    return [path]
