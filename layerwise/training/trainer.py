"""The training loop. It trains one stage, whichever blocks and heads that has."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from layerwise.core.distributed import AllReduceMax, joined
from layerwise.core.errors import NonFiniteLoss
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.core.randomness import key
from layerwise.features.sources import Source
from layerwise.models.blocknet import Segment, trained_parameters
from layerwise.training.averaging import WeightAverage
from layerwise.training.objectives import Objective
from layerwise.training.optim import (
    load_optimizer_state,
    make_capturable,
    restart_momentum,
    set_learning_rate,
)
from layerwise.training.recipe import Recipe
from layerwise.training.reports import EpochReport, Glance, mean_scores
from layerwise.training.running_sums import RunningSums
from layerwise.training.step import CapturedStep, DeviceGraph, EagerStep, TrainingStep
from layerwise.training.team import ALONE, Team

GLANCE_SECONDS = 2.0
"""Time between two glances at the running sums, for the display and to notice a NaN early."""


class StageTrainer:
    """Trains the parameters of a segment on a source. It can be saved and restored between any two steps.

    Args:
        stage: index of the stage, which keys all randomness.
        segment: maps features x_start to one readout per head.
        team: how the processes of the run share the work.
        compiled_for: size of the batches for which torch.compile compiles the segment; None: it is not compiled.
        graph: captures and replays the steps on full batches, in one process and with optimizers that
            `can_be_captured`; None: every step is eager.
    """

    def __init__(
        self,
        stage: int,
        segment: Segment,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        precision: Precision,
        team: Team = ALONE,
        compiled_for: int | None = None,
        graph: DeviceGraph | None = None,
    ) -> None:
        self.stage, self.segment, self.objective = stage, segment, objective
        self.optimizer, self.recipe, self.precision, self.team = optimizer, recipe, precision, team
        self.parameters = [p for p in team.local_segment(segment).parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.scaler = precision.grad_scaler()
        forward = team.wrap_forward(segment, compiled_for)
        measured = trained_parameters(team.local_segment(segment)) if recipe.gradients else None
        self.take_step: TrainingStep = EagerStep(
            forward,
            objective,
            optimizer,
            self.parameters,
            precision,
            self.scaler,
            recipe.clip_norm,
            measured,
            team.unsynchronised,
        )
        self.captured = graph is not None
        if graph is not None:
            self.take_step = CapturedStep(self.take_step, graph, recipe.batch_size)
            make_capturable(optimizer, self.device)
        self.average = WeightAverage(segment, recipe.average)
        self.epoch = 0  # the next one
        self.step = 0  # the next one in this epoch
        self.seconds = 0.0  # spent on the finished epochs
        self.epoch_seconds = 0.0  # spent on the present epoch
        self.sums = RunningSums(self.device)

    @property
    def steps_done(self) -> int:
        """Finished steps of the stage."""
        return self.epoch * self.recipe.steps_per_epoch + self.step

    def run(
        self,
        source: Source,
        stop: StopRequest,
        glance: Callable[[Glance], None] = lambda seen: None,
        settled: Callable[[], None] = lambda: None,
        after_step: Callable[[], None] = lambda: None,
    ) -> Iterator[EpochReport]:
        """Trains to the end of the stage and yields a report after each epoch, at which the caller may save.

        When a stop is requested, it yields the report of the unfinished epoch, with `complete=False`.

        Args:
            glance: called every `GLANCE_SECONDS` with the epoch so far.
            settled: called before the second step of this process, when all memory has been taken once.
            after_step: called after each step.

        Raises:
            NonFiniteLoss: the loss or a weight is NaN or infinite; the message names stage, epoch and step.
        """
        taken = 0
        while self.epoch < self.recipe.epochs:
            if self.step == 0:
                self._seed()
            self.segment.train()
            started, last_glance = time.perf_counter() - self.epoch_seconds, time.perf_counter()
            batches = self.team.local_source(source).train(self.stage, self.epoch, self.step, self.objective.target)
            for inputs, targets in batches:
                if taken == 1:
                    settled()
                taken += 1
                self._train_step(inputs, targets)
                self.average.update()
                self.step += 1
                after_step()
                if stop.all_poll():
                    break
                if self.team.rank == 0 and time.perf_counter() - last_glance > GLANCE_SECONDS:
                    glance(self._glance(time.perf_counter() - started))
                    last_glance = time.perf_counter()
            sums, images = self.team.all_reduce_sums(self.sums.now(), self.sums.images)
            self._check_finite(sums)  # waits for the device: the epoch's time includes all its steps
            self.epoch_seconds = time.perf_counter() - started
            yield self._end_epoch(sums, images)

    def sync_weights(self) -> None:
        """Gives all processes the same weights and statistics, and the same average of them. Collective."""
        self.team.sync_weights(self.segment)
        if self.recipe.average:  # else a second mean of equal statistics could round them
            with self.average.in_place():
                self.team.sync_weights(self.segment)

    @contextmanager
    def final_weights(self) -> Iterator[None]:
        """Context in which the segment is as it would be if the stage ended now, in all processes. Collective."""
        self.sync_weights()
        with self.average.in_place():
            yield

    def end(self) -> None:
        """Gives the segment the weights that the stage ends with. Collective; the training cannot go on after it."""
        if self.recipe.average:
            self.average.adopt()
            self.team.sync_weights(self.segment)

    def _seed(self) -> None:
        """Seeds the generators of the layers (torch.manual_seed would also keep a stack trace of each call)."""
        apart = () if self.team.rank == 0 else (self.step, self.team.rank)  # other samples need other numbers
        seed = key("layers", self.recipe.seed, self.stage, self.epoch, *apart)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _train_step(self, inputs: Tensor, targets: Tensor) -> None:
        """Takes one step at the schedule's learning rate. Nothing in it waits for the device."""
        recipe = self.recipe
        set_learning_rate(self.optimizer, recipe.lr_at(self.steps_done))
        if recipe.restart_momentum and recipe.decays_at(self.steps_done):
            restart_momentum(self.optimizer)
        images = recipe.images(self.step)
        scale, parts = self.team.loss_scale(len(targets), images), recipe.parts(images, self.team.ranks)
        terms = self.take_step(inputs, targets, scale, parts)
        self.sums.add(terms, len(targets))

    def _glance(self, seconds: float) -> Glance:
        """Returns the epoch so far. Waits for the device."""
        sums = self.sums.now()
        if not joined():  # several processes check together, at the end of the epoch
            self._check_finite(sums)
        scores = mean_scores({name: total[-1:].tolist() for name, total in sums.items()}, self.sums.images)
        images = min(self.step * self.recipe.batch_size, self.recipe.samples)
        return Glance(self.step, scores[0], images, seconds)

    def _check_finite(self, sums: dict[str, Tensor]) -> None:
        """Raises in all processes if a sum of the epoch, or a weight of any process, is not finite. Collective."""
        with torch.no_grad():
            norms = torch.stack(torch._foreach_norm([*self.parameters]))
        (bad_weight,) = AllReduceMax(float(not math.isfinite(float(norms.sum())))).wait()
        bad_loss = not math.isfinite(float(sums["loss"].sum()))
        if not (bad_weight or bad_loss):
            return
        what, step = "a weight", self.step  # no loss has seen the last update yet
        if bad_loss:
            own = self.sums.first_bad_step()
            (earliest,) = AllReduceMax(-float(self.step if own is None else own + 1)).wait()
            what, step = "the loss", -int(earliest)
        raise NonFiniteLoss(
            f"{what} became NaN or infinite in stage {self.stage + 1}, epoch {self.epoch + 1}, step {step}. "
            "Earlier checkpoints and blocks are kept. "
            + (
                "It was so before the first update: look at the data, the head and the loss, not at the learning rate."
                if bad_loss and step == 1 and self.epoch == 0
                else "Try a smaller optimizer.lr, optimizer.clip_norm=1, or precision=fp32."
            )
        ).shared()

    def _end_epoch(self, sums: dict[str, Tensor], images: int) -> EpochReport:
        complete = self.step == self.recipe.steps_per_epoch
        report = EpochReport(
            epoch=self.epoch,
            steps=self.step,
            sums={name: total.tolist() for name, total in sums.items()},
            lr=self.recipe.lr_at(max(0, self.steps_done - 1)),
            seconds=self.epoch_seconds,
            images=images,
            complete=complete,
        )
        if complete:
            self.epoch, self.step = self.epoch + 1, 0
            self.seconds, self.epoch_seconds = self.seconds + self.epoch_seconds, 0.0
            self.sums.clear()
        return report

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a resumed stage needs. Collective.

        The state is complete in the main process only, and does not depend on the number of processes.
        """
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        self.sync_weights()
        return {
            "segment": self.segment.state_dict(),
            "optimizer": self.team.gather_optimizer_state(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "sums": self.team.gather_sums(self.sums),
            "random": random,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.segment.load_state_dict(state["segment"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        if self.captured:
            make_capturable(self.optimizer, self.device)
        self.scaler.load_state_dict(state["scaler"])
        if self.recipe.average:
            self.average.load_state_dict(state["average"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.seconds, self.epoch_seconds = state["seconds"], state["epoch_seconds"]
        self.sums.load_state_dict(self.team.local_sums(self.segment, state["sums"]))
        if self.team.rank > 0:
            self._seed()  # the saved state is that of rank 0
            return
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
