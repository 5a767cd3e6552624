"""The numbers that say how a stage is optimised."""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.training.optim import Schedule


@dataclass(frozen=True)
class Recipe:
    """How a stage is optimised.

    Attributes:
        batch_size: images per step in all processes together.
        accumulate: parts that a batch is computed in; divides it.
        lr: base learning rate, multiplied by the schedule's factor at each step.
        schedule: factor on the learning rate; see `optim`.
        restart_momentum: whether the momentum is cleared when a stepwise schedule decays.
        clip_norm: upper bound on the gradient's norm, or None.
        seed: seed of layers that draw random numbers, such as dropout.
        average: decay of the average of the weights that the stage ends with; 0 keeps no average.
        gradients: whether the norm of the gradient of each block and head is measured.
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
    gradients: bool = False
    accumulate: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-self.samples // self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole stage."""
        return self.epochs * self.steps_per_epoch

    def lr_at(self, step: int) -> float:
        """Returns the learning rate of a step of the stage, counted from 0."""
        return self.lr * self.schedule(step / self.steps)

    def decays_at(self, step: int) -> bool:
        """Returns whether a stepwise schedule lowers the learning rate before a step of the stage."""
        return step > 0 and self.schedule.decays_in_steps and self.lr_at(step) != self.lr_at(step - 1)

    def images(self, step: int) -> int:
        """Returns the images of all processes in a step of an epoch, counted from 0."""
        return min(self.batch_size, self.samples - step * self.batch_size)

    def parts(self, images: int, ranks: int) -> int:
        """Returns how many parts a batch is computed in: as few as are no larger than those of a full batch.

        All processes have as many: batch norms that they synchronise are computed together.

        Args:
            images: in all processes.
            ranks: processes that share the batch, of which each has a sample in each part.
        """
        return parts_of_batch(images, self.batch_size // self.accumulate, ranks)


def parts_of_batch(images: int, largest: int, ranks: int) -> int:
    """Returns the number of parts of a batch, of `largest` images at most in all processes together.

    Where that is one image for each process, some may have two, so that no process lacks one.
    """
    return min(-(-images // largest), images // ranks)
