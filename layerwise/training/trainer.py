"""The only training loop: one stage, whatever it trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from layerwise.core.distributed import AllReduceMax, joined
from layerwise.core.errors import NonFiniteLoss
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.core.randomness import key
from layerwise.features.sources import Source
from layerwise.models.blocknet import Segment
from layerwise.training.averaging import WeightAverage
from layerwise.training.captured_step import CapturedStep, Recorder
from layerwise.training.objectives import Objective
from layerwise.training.optim import Schedule, make_capturable, portable_state, restart_momentum, set_learning_rate
from layerwise.training.running_sums import RunningSums
from layerwise.training.step import EagerStep, TrainingStep
from layerwise.training.team import ALONE, Team

GLANCE_SECONDS = 2.0
"""How often running sums are read between two steps: for the display, and to notice a NaN early."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch gave, over its own (augmented) training samples.

    `sums` are those of the objective over all samples, with an entry per head.
    """

    epoch: int
    steps: int
    sums: dict[str, list[float]]
    lr: float
    seconds: float
    images: int
    complete: bool  # False: a stop was requested in mid-epoch

    @property
    def loss(self) -> list[float]:
        """Mean loss of each head."""
        return [total / self.images for total in self.sums["loss"]]

    @property
    def top1(self) -> list[float]:
        """Accuracy of each head in per cent; empty where nothing is classified."""
        return [100.0 * total / self.images for total in self.sums.get("correct", [])]

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Glance:
    """An epoch so far, read between two steps: of the last head that this process trains, over its own samples.

    Attributes:
        steps: of the epoch that are done.
        loss: mean so far.
        top1: accuracy so far in per cent; None where nothing is classified.
        images: of the epoch that are done, of all processes together.
        seconds: spent on them.
    """

    steps: int
    loss: float
    top1: float | None
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Recipe:
    """How a stage is optimised.

    Attributes:
        epochs: passes over the data.
        samples: in each.
        batch_size: images per step of all processes together.
        lr: base learning rate, multiplied by the schedule's factor at each step.
        schedule: see `optim`.
        restart_momentum: forget the momentum where a stepwise schedule decays.
        clip_norm: bound on the gradient's norm, or None.
        seed: of the layers that draw random numbers, such as dropout.
        average: decay of an average of the weights, which the stage ends with; 0 for none.
    """

    epochs: int
    samples: int
    batch_size: int
    lr: float
    schedule: Schedule
    restart_momentum: bool
    clip_norm: float | None
    seed: int
    average: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-self.samples // self.batch_size)

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from the beginning of the stage."""
        return self.lr * self.schedule(step / (self.epochs * self.steps_per_epoch))

    def images(self, step: int) -> int:
        """Size of a step's batch, of all processes together."""
        return min(self.batch_size, self.samples - step * self.batch_size)


class StageTrainer:
    """Trains the parameters of a segment on a source, and can be saved and restored between any two steps.

    Args:
        stage: index of the stage; it keys all randomness.
        segment: maps features to one readout per head.
        objective: from readouts and targets to the loss.
        optimizer: over the segment's parameters.
        recipe: epochs, schedule and their like.
        precision: of forward and backward passes.
        team: how the processes of the run share the work.
        compiled_for: size of the batches for which the segment goes through torch.compile; None: for none.
        recorder: replays the steps on full batches; None: they are not recorded. It is for one process and for
            optimisers that `can_be_captured`.
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
        recorder: Recorder | None = None,
    ) -> None:
        self.stage, self.segment, self.objective = stage, segment, objective
        self.optimizer, self.recipe, self.precision, self.team = optimizer, recipe, precision, team
        self.parameters = [p for p in team.part(segment).parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.scaler = precision.grad_scaler()
        forward = team.forward(segment, compiled_for)
        self.take_step: TrainingStep = EagerStep(
            forward, objective, optimizer, self.parameters, precision, self.scaler, recipe.clip_norm
        )
        self.recorded = recorder is not None
        if recorder is not None:
            self.take_step = CapturedStep(self.take_step, recorder, recipe.batch_size)
            make_capturable(optimizer, self.device)
        self.average = WeightAverage(segment, recipe.average)
        self.epoch = 0  # next epoch
        self.step = 0  # next step in it
        self.seconds = 0.0  # spent on the whole stage
        self.epoch_seconds = 0.0  # spent on the present epoch
        self.sums = RunningSums(self.device)

    @property
    def steps_done(self) -> int:
        """Steps of the whole stage that are done."""
        return self.epoch * self.recipe.steps_per_epoch + self.step

    def run(
        self, source: Source, stop: StopRequest, glance: Callable[[Glance], None] = lambda seen: None
    ) -> Iterator[EpochReport]:
        """Trains to the end of the stage and yields a report after each epoch.

        The caller saves `state_dict()` at each report. When a stop is requested, the report of the
        unfinished epoch comes last, with `complete=False`.

        Args:
            source: gives the batches.
            stop: asked between steps.
            glance: called now and then with the epoch so far.

        Raises:
            NonFiniteLoss: names stage, epoch and step.
        """
        while self.epoch < self.recipe.epochs:
            if self.step == 0:
                self._seed()
            self.segment.train()
            started, last_glance = time.perf_counter() - self.epoch_seconds, time.perf_counter()
            batches = self.team.source(source).train(self.stage, self.epoch, self.step, self.objective.target)
            for inputs, targets in batches:
                self._train_step(inputs, targets)
                self.average.update()
                self.step += 1
                if stop.all_poll():
                    break
                if self.team.rank == 0 and time.perf_counter() - last_glance > GLANCE_SECONDS:
                    glance(self._glance(time.perf_counter() - started))
                    last_glance = time.perf_counter()
            sums, images = self.team.merged(self.sums.now(), self.sums.images)
            self._check_finite(sums)  # waits for the device, so that its time counts
            self.epoch_seconds = time.perf_counter() - started
            yield self._end_epoch(sums, images)

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Between two steps: the segment as it would be if the stage ended now, in all processes alike."""
        self.team.settle(self.segment)
        if not self.recipe.average:
            yield
            return
        with self.average.in_place():
            self.team.settle(self.segment)
            yield

    def end(self) -> None:
        """Gives the segment the weights that the stage ends with; the training cannot go on then."""
        if self.recipe.average:
            self.average.adopt()
            self.team.settle(self.segment)

    def _seed(self) -> None:
        """Seeds the generators that layers draw from (torch.manual_seed would also keep a stack trace of each call)."""
        apart = () if self.team.rank == 0 else (self.step, self.team.rank)  # processes draw for different samples
        seed = key("layers", self.recipe.seed, self.stage, self.epoch, *apart)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _train_step(self, inputs: Tensor, targets: Tensor) -> None:
        """One step at the schedule's learning rate; nothing here waits for the device."""
        recipe, step = self.recipe, self.steps_done
        lr = recipe.lr_at(step)
        set_learning_rate(self.optimizer, lr)
        decayed = step > 0 and recipe.schedule.decays_in_steps and lr != recipe.lr_at(step - 1)
        if decayed and recipe.restart_momentum:
            restart_momentum(self.optimizer)
        terms = self.take_step(inputs, targets, self.team.share(len(targets), recipe.images(self.step)))
        self.sums.add(terms, len(targets))

    def _glance(self, seconds: float) -> Glance:
        """The epoch so far (waits for the device)."""
        sums = self.sums.now()
        if not joined():  # else all processes see it together, at the end of the epoch
            self._check_finite(sums)
        top1 = 100.0 * float(sums["correct"][-1]) / self.sums.images if "correct" in sums else None
        images = min(self.step * self.recipe.batch_size, self.recipe.samples)
        return Glance(self.step, float(sums["loss"][-1]) / self.sums.images, top1, images, seconds)

    def _check_finite(self, sums: dict[str, Tensor]) -> None:
        """Refuses sums of the epoch, or weights of any process, that are not finite; in all processes alike."""
        with torch.no_grad():
            norms = torch.stack(torch._foreach_norm([*self.parameters]))
        (bad_weight,) = AllReduceMax(float(not math.isfinite(float(norms.sum())))).wait()
        bad_loss = not math.isfinite(float(sums["loss"].sum()))
        if not (bad_weight or bad_loss):
            return
        what, step = "a weight", self.step  # the last update is seen by no loss yet
        if bad_loss:
            own = self.sums.first_bad_step()
            (earliest,) = AllReduceMax(-float(self.step if own is None else own + 1)).wait()
            what, step = "the loss", -int(earliest)
        raise NonFiniteLoss(
            f"{what} became NaN or infinite in stage {self.stage + 1}, epoch {self.epoch + 1}, step {step}. "
            "Earlier checkpoints and blocks are kept. Try a smaller optimizer.lr, "
            "optimizer.clip_norm=1, or precision=fp32."
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
        """All that a resumed stage needs, between any two steps; to be asked for by all processes of a team.

        It does not depend on their number, and is whole in the main process only.
        """
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        with self.judged():
            pass  # whatever the processes hold apart has settled, in the weights and in their average
        return {
            "segment": self.segment.state_dict(),
            "optimizer": self.team.whole_optimizer(self.segment, portable_state(self.optimizer)),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "sums": self.team.whole_sums(self.sums),
            "random": random,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.segment.load_state_dict(state["segment"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.recorded:
            make_capturable(self.optimizer, self.device)
        for parameter, slots in self.optimizer.state.items():
            for name, value in slots.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    slots[name] = torch.empty_like(parameter).copy_(value)  # the parameter's memory format
        self.scaler.load_state_dict(state["scaler"])
        if self.recipe.average:
            self.average.load_state_dict(state["average"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.seconds, self.epoch_seconds = state["seconds"], state["epoch_seconds"]
        self.sums.load_state_dict(self.team.own_sums(self.segment, state["sums"]))
        if self.team.rank > 0:
            self._seed()  # the state that is saved is rank 0's
            return
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
