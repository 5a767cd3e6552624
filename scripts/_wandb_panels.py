"""The panels that wandb_dashboard.py sets up, as plain data: what is drawn over what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """A metric of the history over another, a line per run."""

    title: str
    x: str
    y: str


@dataclass(frozen=True)
class Bars:
    """A number of the summary, the mean of the runs of each plan."""

    title: str
    y: str


@dataclass(frozen=True)
class Points:
    """A number of the summary over another, a point per run."""

    title: str
    x: str
    y: str


Panel = Curve | Bars | Points

SECTIONS: dict[str, tuple[Panel, ...]] = {
    "Layerwise and end-to-end": (
        Bars("Test accuracy, %", "test_top1"),
        Bars("Test accuracy of the ensemble, %", "ensemble_top1"),
        Points("Test accuracy, % over seconds", "seconds", "test_top1"),
        Points("Test accuracy, % over parameters", "parameters", "test_top1"),
    ),
    "Accuracy over depth": (
        Curve("Test accuracy, %", "depth_block", "depth/test_top1"),
        Curve("Test accuracy of the ensemble, %", "depth_block", "depth/ensemble_top1"),
        Curve("Training accuracy, %", "depth_block", "depth/train_top1"),
    ),
    "Training": (
        Curve("Loss", "step", "train/loss"),
        Curve("Training accuracy, %", "step", "train/top1"),
        Curve("Test accuracy at the end of each stage, %", "step", "test/top1"),
        Curve("Learning rate", "step", "lr"),
        Curve("Images per second", "step", "speed/images_per_second"),
    ),
}
"""By the section's title."""
