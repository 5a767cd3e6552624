"""Trains a stage of a tiny network."""

from __future__ import annotations

import torch

from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.training.objectives import LocalLoss
from layerwise.training.optim import StepDecay, sgd
from layerwise.training.recipe import Recipe
from layerwise.training.trainer import StageTrainer

PLAN = BatchPlan(batch_size=16, seed=0)
STEPS = 5  # ⌈70 / 16⌉

FP32 = Precision(torch.float32, "cpu")


def trainer_of(net: BlockNet, start: int = 0, stop: int = 1, epochs: int = 2, **changes) -> StageTrainer:
    segment = Segment(net, start, stop, (stop,))
    options = {"lr": 0.1, "schedule": StepDecay(0.3, 0.2), "restart_momentum": True, "clip_norm": None}
    precision = changes.pop("precision", Precision(torch.float32, "cpu"))
    objective = LocalLoss(changes.pop("label_smoothing", 0.0))
    how = {name: changes.pop(name) for name in ("compiled_for", "graph") if name in changes}
    optimizer = sgd(segment.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=False)
    recipe = Recipe(epochs=epochs, samples=70, batch_size=16, seed=0, **options | changes)
    return StageTrainer(start, segment, objective, optimizer, recipe, precision, **how)


def train(trainer: StageTrainer, data, prefix=()) -> list:
    return list(trainer.run(Recompute(data, PLAN, trainer.precision, prefix), StopRequest()))
