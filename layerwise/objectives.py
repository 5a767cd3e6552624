"""What a stage minimises: from the readouts of its heads to a loss and exact counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor


class Readout(NamedTuple):
    """What a head says of a batch: class scores [B, c] and, from some heads in training, an embedding [B, E]."""

    scores: Tensor
    embedding: Tensor | None = None


class Terms(TypedDict):
    """Result of an objective on one batch; D heads."""

    loss: Tensor  # scalar to minimise
    losses: Tensor  # [D] mean loss of each head, detached
    correct: Tensor  # [D] number of samples whose first class is right


@dataclass(frozen=True)
class LocalLoss:
    """The loss of each head, summed over the heads.

    A head without embedding has the cross-entropy (paper, equation 3), one with an embedding
    (1 − β) cross-entropy + β similarity (Nøkland and Eidnes 2019, section 2.3: predsim).

    Args:
        label_smoothing: weight of the uniform distribution in the targets, in [0, 1).
        similarity: β in [0, 1].
    """

    label_smoothing: float = 0.0
    similarity: float = 0.99

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        """Args: readouts: one per head. targets: [B] int64."""
        losses = torch.stack([self._loss(readout, targets) for readout in readouts])
        correct = torch.stack([(r.scores.detach().argmax(dim=1) == targets).sum() for r in readouts])
        return {"loss": losses.sum(), "losses": losses.detach(), "correct": correct}

    def _loss(self, readout: Readout, targets: Tensor) -> Tensor:
        z = readout.scores.float()
        prediction = F.cross_entropy(z, targets, label_smoothing=self.label_smoothing)
        if readout.embedding is None:
            return prediction
        similar = similarity_loss(readout.embedding, targets, classes=z.shape[1])
        return (1 - self.similarity) * prediction + self.similarity * similar


def similarity_loss(embedding: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Mean squared difference between the batch's similarity matrices of features and of labels.

    Args:
        embedding: [B, E].
        targets: [B] int64.
        classes: number of classes c.
    """
    wanted = cosine_similarities(F.one_hot(targets, classes).float())
    return F.mse_loss(cosine_similarities(embedding.float()), wanted)


def cosine_similarities(rows: Tensor) -> Tensor:
    """[B, E] → [B, B] cosines between rows that were centred each (adjusted cosine similarity), in float32."""
    with torch.autocast(rows.device.type, enabled=False):  # which would round the product of float32 matrices
        centred = F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)
        return centred @ centred.T
