"""A plan of two passes."""

from __future__ import annotations

from layerwise.training.plan import Stage


def two_passes(J: int, epochs: int, second_epochs: int = 1, lr: float | None = None) -> list[Stage]:
    """Trains block after block, and then each block once more on the outputs of the trained ones before it.

    Args:
        second_epochs: epochs of each block in the second pass.
        lr: base learning rate of the second pass; None for that of the run.
    """
    first = [Stage(0, start=j - 1, stop=j, depths=(j,), epochs=epochs) for j in range(1, J + 1)]
    second = [Stage(0, start=j - 1, stop=j, depths=(j,), epochs=second_epochs, lr=lr) for j in range(1, J + 1)]
    return first + second
