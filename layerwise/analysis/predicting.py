"""What a trained network says of images: the class at each depth, and that of the ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from layerwise.analysis.image_file import read_image
from layerwise.core.errors import LayerwiseError
from layerwise.models.ensemble import EnsembleOn, ensemble
from layerwise.runs.loading import TrainedNet

BATCH_SIZE = 64
"""Images that are predicted at a time."""


@dataclass(frozen=True)
class Guess:
    """A class and the probability that is given to it.

    Attributes:
        name: of the class.
        confidence: 0 … 1; the largest softmax output.
    """

    name: str
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        by_depth: by the classifier at each depth that has one, in ascending order.
        ensemble: by the 2^j ensemble of all of them; of a single classifier what that one says.
    """

    by_depth: dict[int, Guess]
    ensemble: Guess

    @property
    def result(self) -> Guess:
        """What the last classifier says, which is the network's result."""
        return self.by_depth[max(self.by_depth)]


def predict_files(network: TrainedNet, paths: Sequence[Path]) -> list[Prediction]:
    """Predictions for image files, which are brought to the shape of the training images.

    Args:
        network: of a run on images, as `layerwise.load` gives it.
        paths: of the files.

    Raises:
        LayerwiseError: the network reads vectors, or a file is no image that can be decoded.
    """
    if not network.spec.has_images:
        raise LayerwiseError(
            f"the run was trained on a table of {network.spec.shape[0]} features (dataset={network.spec.name}), "
            "and not on images. Predict rows in Python: net = layerwise.load(FOLDER); net(net.normalise(rows))."
        )
    predictions = []
    for first in range(0, len(paths), BATCH_SIZE):
        images = [read_image(network.spec, path) for path in paths[first : first + BATCH_SIZE]]
        predictions += predict(network, torch.stack(images))
    return predictions


@torch.no_grad()
def predict(network: TrainedNet, values: Tensor) -> list[Prediction]:
    """Predictions for samples of the training shape.

    Args:
        network: in eval mode, on any device.
        values: images uint8 [B, C, H, W], or vectors [B, F].
    """
    scores = network.class_scores(network.normalise(values.to(network.mean.device)), network.depths)
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


def image_files(path: Path) -> list[Path]:
    """A file itself, or the images below a folder in the order of their names.

    Raises:
        LayerwiseError: there is neither, or the folder holds no images.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LayerwiseError(f"image={path}: there is no such file or folder.")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS and file.is_file())
    if not files:
        raise LayerwiseError(f"image={path}: the folder holds no images ({', '.join(IMG_EXTENSIONS)}).")
    return files
