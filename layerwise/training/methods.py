"""Objectives of methods of local training.

InfoPro: Wang, Ni, Song, Yang and Huang, Revisiting Locally Supervised Learning (ICLR 2021); its contrastive loss is
Khosla et al., Supervised Contrastive Learning (NeurIPS 2020).
TRGL: Karkar, Ayed, de Bézenac and Gallinari, Module-wise Training of Neural Networks via the Minimizing Movement
Scheme (NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.types import Target
from layerwise.models.readout import Readout
from layerwise.training.objectives import LocalLoss, Objective, Terms, detached, total

TEMPERATURE = 0.07
"""Of the contrastive loss."""


@dataclass(frozen=True)
class InfoPro:
    """λ₁ BCE(decoder(x_j), image) + λ₂ L_y for each head with a decoder, and the plain loss for the others.

    L_y is the loss of the class scores, or of a head with a projection their contrastive loss; then the class scores,
    which the blocks do not learn from, have their loss beside it.

    Args:
        plain: loss of the class scores.
        decoder_weights, label_weights: λ₁ and λ₂ by head.
        scale, shift: [C] of the channels: image = scale · x_0 + shift, in [0, 1].
    """

    plain: LocalLoss
    decoder_weights: Sequence[float]
    label_weights: Sequence[float]
    scale: Tensor
    shift: Tensor
    target: Target = "labels"

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        plain = [self.plain([Readout(readout.scores)], targets) for readout in readouts]
        weights = zip(self.decoder_weights, self.label_weights, strict=True)
        of_heads = zip(readouts, weights, plain, strict=True)
        losses = [self._loss(readout, pair, terms["loss"], targets) for readout, pair, terms in of_heads]
        counts = {"correct": [terms["counts"]["correct"][0] for terms in plain]}
        return {"loss": total(losses), "means": {"loss": detached(losses)}, "counts": counts}

    def _loss(self, readout: Readout, weights: tuple[float, float], scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of a head; `scores` is that of its class scores."""
        if readout.reconstruction is None or readout.inputs is None:
            return scores
        image = readout.inputs.float() * self.scale[:, None, None] + self.shift[:, None, None]
        error = F.binary_cross_entropy_with_logits(readout.reconstruction.float(), image.clamp(0, 1))
        if readout.embedding is None:
            return weights[0] * error + weights[1] * scores
        return weights[0] * error + weights[1] * contrastive_loss(readout.embedding, targets) + scores


def infopro_weights(first_and_last: Sequence[float], depths: Sequence[int], J: int) -> list[float]:
    """Returns λ by depth: linear in j from its value at the first to that at the last but one module of J."""
    first, last = first_and_last
    parts = [(depth - 1) / (J - 2) if J > 2 else 0.0 for depth in depths]
    return [first * (1 - part) + last * part for part in parts]


def contrastive_loss(embedding: Tensor, targets: Tensor) -> Tensor:
    """Returns the supervised contrastive loss, a mean over the samples; one without others of its class has none.

    Args:
        embedding: [B, E].
        targets: [B] int64, or shares of the classes [B, c], of which the larger one counts.
    """
    with torch.autocast(embedding.device.type, enabled=False):  # it would round the product
        rows = F.normalize(embedding.float(), dim=1)
        itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        similar = (rows @ rows.T / TEMPERATURE).masked_fill(itself, -torch.inf)
        log_shares = (similar - similar.logsumexp(dim=1, keepdim=True)).masked_fill(itself, 0)
        labels = targets.argmax(dim=1) if targets.dim() == 2 else targets
        positive = (labels[:, None] == labels[None, :]) & ~itself
        return -((log_shares * positive).sum(1) / positive.sum(1).clamp_min(1)).mean()


@dataclass(frozen=True)
class Transported:
    """An objective plus Σ_j 1/(2 τ_j) Σ_m mean(r_m²), r_m the residuals of module j. The reported means are without it.

    Args:
        taus: τ_j by head.
    """

    objective: Objective
    taus: Sequence[float]

    @property
    def target(self) -> Target:
        return self.objective.target

    def __call__(self, readouts: Sequence[Readout], targets: Tensor) -> Terms:
        terms = self.objective(readouts, targets)
        costs = [
            readout.moved / (2 * tau)
            for readout, tau in zip(readouts, self.taus, strict=True)
            if readout.moved is not None
        ]
        return {**terms, "loss": total([terms["loss"], *costs])}


def halved_taus(tau: float, depths: Sequence[int], J: int) -> list[float]:
    """Returns τ_j by depth: half of τ in the first half of the J modules."""
    return [tau / 2 if depth <= J // 2 else tau for depth in depths]
