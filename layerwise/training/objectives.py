"""What a stage minimises: from the readouts of its heads to a loss, with means and counts of the batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.errors import LayerwiseError, blamed
from layerwise.core.randomness import seeded
from layerwise.core.types import Target
from layerwise.models.readout import Readout
from layerwise.training.choices import LOSSES
from layerwise.training.contracts import Loss


class Terms(TypedDict):
    """Result of an objective on one batch, for D heads."""

    loss: Tensor  # scalar to minimise
    means: dict[str, list[Tensor]]  # `loss` and what else is shown of the training: D scalars, means over the samples
    counts: dict[str, list[Tensor]]  # of classes `correct`: D scalars, the number of correct samples


@runtime_checkable
class Objective(Protocol):
    """Loss of a batch."""

    @property
    def target(self) -> Target:
        """What the readouts are compared with."""

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        """Returns the loss of a batch.

        Args:
            targets: labels [B] int64 or, of mixed images, shares of the classes [B, c]; real-valued targets [B], or
                inputs [B, …].
        """


def class_loss(
    name: str, z: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Returns the mean loss of class scores. Losses that read no labels compare them with a one-hot vector.

    Args:
        name: of `LOSSES`.
        z: [B, c] float32.
        targets: [B] int64, or shares of two classes float32 [B, c]: λ and 1 − λ of a mixed image, whose loss is
            λ loss(a) + (1 − λ) loss(b).
        label_smoothing: weight of the uniform distribution in the targets, in [0, 1).
        class_weights: [c] factor of the loss of a sample by its class; the sum is still divided by B, so that the mean
            over processes is that over the batch.
    """
    if targets.dim() == 2:
        shares, labels = targets.topk(2, dim=1)
        pairs = zip(shares.unbind(1), labels.unbind(1), strict=True)
        return total([s * _sample_losses(name, z, of, label_smoothing, class_weights) for s, of in pairs]).mean()
    if class_weights is not None:
        return _sample_losses(name, z, targets, label_smoothing, class_weights).mean()
    return _losses(name, z, targets, label_smoothing, "mean")


def _sample_losses(
    name: str, z: Tensor, targets: Tensor, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    losses = _losses(name, z, targets, label_smoothing, "none").view(len(targets), -1).mean(dim=1)
    return losses if class_weights is None else class_weights[targets] * losses


def _losses(name: str, z: Tensor, targets: Tensor, label_smoothing: float, reduction: str) -> Tensor:
    loss = LOSSES[name]
    if loss.wanted == "labels":
        return loss.function(z, targets, label_smoothing=label_smoothing, reduction=reduction)
    classes = z.shape[1]
    wanted = F.one_hot(targets, classes) * (1 - label_smoothing) + label_smoothing / classes
    return elementwise_loss(name, z, wanted, reduction)


def elementwise_loss(name: str, prediction: Tensor, wanted: Tensor, reduction: str = "mean") -> Tensor:
    """Returns the mean over all elements of a loss that reads no labels.

    Args:
        prediction, wanted: of the same shape.
        reduction: "mean", or "none" for the loss of each element.
    """
    return LOSSES[name].function(prediction, wanted.to(prediction.dtype), reduction=reduction)


def check_loss(loss: Loss, classes: int | None, device: torch.device, name: str) -> None:
    """Calls a loss of another package once, with made-up scores.

    Args:
        classes: c; None for real-valued targets.
        name: of the loss, for messages.

    Raises:
        LayerwiseError: it raises an error, or returns no scalar with a gradient.
    """
    z = torch.zeros((2,) if classes is None else (2, classes), device=device, requires_grad=True)
    targets = torch.zeros(2, device=device, dtype=torch.float32 if classes is None else torch.int64)
    with blamed(f"{name}, called with scores {list(z.shape)} and targets [2]"), seeded(0):
        found = loss(z, targets)
    if not isinstance(found, Tensor) or found.dim() or not found.requires_grad:
        told = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        told = "a scalar without a gradient" if isinstance(found, Tensor) and not found.dim() else told
        raise LayerwiseError(f"{name}: returned {told}; it must return the mean loss of the batch, a scalar tensor.")


@dataclass(frozen=True)
class LocalLoss:
    """The loss of each head's class scores, summed over the heads: Σ_j w_j L_j.

    A head without an embedding has the plain loss (the paper's equation 3: the cross-entropy). A head with an embedding
    has (1 − β) loss + β similarity (Nøkland and Eidnes 2019, section 2.3: predsim).

    Args:
        label_smoothing: weight of the uniform distribution in the targets, in [0, 1).
        similarity: β in [0, 1].
        class_weights: see `class_loss`.
        own: takes the place of all that.
        weights: w_j by head, of which the reported losses do not depend; None: all 1.
    """

    label_smoothing: float = 0.0
    similarity: float = 0.99
    loss: str = "cross_entropy"
    class_weights: Tensor | None = None
    own: Loss | None = None
    weights: Sequence[float] | None = None
    target: Target = "labels"

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        losses = [self._loss(readout, targets) for readout in readouts]
        labels = targets.argmax(dim=1) if targets.dim() == 2 else targets  # of mixed images the larger share
        correct = [(readout.scores.argmax(dim=1) == labels).sum() for readout in readouts]
        return {
            "loss": total(losses, self.weights),
            "means": {"loss": detached(losses)},
            "counts": {"correct": correct},
        }

    def _loss(self, readout: Readout, targets: Tensor) -> Tensor:
        z = readout.scores.float()
        if self.own is not None:
            return self.own(z, targets)
        prediction = class_loss(self.loss, z, targets, self.label_smoothing, self.class_weights)
        if readout.embedding is None:
            return prediction
        similar = similarity_loss(readout.embedding, targets, classes=z.shape[1])
        return (1 - self.similarity) * prediction + self.similarity * similar


@dataclass(frozen=True)
class ValueLoss:
    """The error of each head's one output, summed over the heads, for targets of mean 0 and deviation 1.

    Args:
        loss: name of one for real-valued targets.
        deviation: of the targets before they were scaled, the unit of the mean absolute error that is shown.
        own: takes the place of the loss.
        weights: as in `LocalLoss`.
    """

    loss: str = "squared_error"
    deviation: float = 1.0
    own: Loss | None = None
    weights: Sequence[float] | None = None
    target: Target = "labels"

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        values = [readout.scores.float().squeeze(1) for readout in readouts]  # [B] each
        loss = self.own or functools.partial(elementwise_loss, self.loss)
        losses = [loss(value, targets) for value in values]
        errors = [value - targets for value in detached(values)]
        means = {
            "loss": detached(losses),
            "r2": [1 - error.square().mean() for error in errors],  # the variance of all training targets is 1
            "mae": [self.deviation * error.abs().mean() for error in errors],
        }
        return {"loss": total(losses, self.weights), "means": means, "counts": {}}


@dataclass(frozen=True)
class Reconstruction:
    """The error of each decoder's reconstruction of x_0, summed over the decoders.

    Args:
        loss: name of the loss, a mean over all values of the input.
    """

    loss: str = "squared_error"
    target: Target = "inputs"

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        losses = [elementwise_loss(self.loss, readout.scores.float(), targets) for readout in readouts]
        return {"loss": total(losses), "means": {"loss": detached(losses)}, "counts": {}}


@dataclass(frozen=True)
class Penalised:
    """An objective plus λ₁ Σ|w| + λ₂ Σw² over some weights. The means that it reports do not include the penalty.

    Args:
        weights: the weights w.
        l1: λ₁.
        l2: λ₂, which with SGD equals a weight decay of 2 λ₂ on these weights.
    """

    objective: Objective
    weights: Sequence[Tensor]
    l1: float
    l2: float

    @property
    def target(self) -> Target:
        return self.objective.target

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        terms = self.objective(readouts, targets)
        penalties = [self.l1 * w.abs().sum() + self.l2 * w.square().sum() for w in self.weights]
        return {**terms, "loss": total([terms["loss"], *penalties])}


def total(losses: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Returns the sum of scalars without a needless operation for one of them, which small networks would notice."""
    if weights is not None:
        losses = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
    return functools.reduce(torch.add, losses)


def detached(values: Sequence[Tensor]) -> list[Tensor]:
    """Returns the values without their autograd graph."""
    return [value.detach() for value in values]


def similarity_loss(embedding: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Returns the mean squared difference between the batch's similarity matrices of features and of labels.

    Args:
        embedding: [B, E].
        targets: [B] int64, or shares of the classes [B, c].
    """
    wanted = cosine_similarities((targets if targets.dim() == 2 else F.one_hot(targets, classes)).float())
    return F.mse_loss(cosine_similarities(embedding.float()), wanted)


def cosine_similarities(rows: Tensor) -> Tensor:
    """[B, E] → [B, B] cosines between the centred rows (adjusted cosine similarity), in float32."""
    with torch.autocast(rows.device.type, enabled=False):  # it would round the product
        centred = F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)
        return centred @ centred.T
