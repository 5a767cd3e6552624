"""A row of a set of experiments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of a table: an experiment file, with overrides if it needs any.

    Attributes:
        family: key into `SCALES`, where a smaller scale has its overrides.
        variant: overrides of this row at every scale.
        reuses: name of a row of the same set; this row takes over its finished stages.
        probed: also measures separability with probes.
        published: top-1 of others for this row, in per cent; None: that of the paper for the experiment, if any.
        label: its name, where that is not the experiment with the overrides.
    """

    experiment: str
    family: str = "simcnn"
    variant: tuple[str, ...] = ()
    reuses: str | None = None
    probed: bool = False
    published: float | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        """Its label, or experiment and overrides: `paper_separability_k1 model.width=64`."""
        return self.label or " ".join((self.experiment, *self.variant))

    @property
    def held_out(self) -> bool:
        """Whether it is scored on held-out training images: a choice between rows must not see the test images."""
        return any(word.startswith("dataset.validation=") for word in self.variant)
