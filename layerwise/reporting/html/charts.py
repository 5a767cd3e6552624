"""All plots of a report."""

from __future__ import annotations

from collections.abc import Sequence

from layerwise.reporting.html.quality_charts import (
    accuracy_over_depth,
    anytime_curve,
    ensemble_weights,
    r2_over_depth,
    reconstruction_over_depth,
)
from layerwise.reporting.html.reported_run import ReportedRun
from layerwise.reporting.html.training_charts import (
    accuracy_curves,
    gradient_norms,
    loss_curves,
    memory,
    r2_curves,
    reconstruction_curves,
    storage,
    time_per_block,
)
from layerwise.reporting.html.vega import Chart

MAKERS = (
    accuracy_over_depth,
    r2_over_depth,
    reconstruction_over_depth,
    anytime_curve,
    loss_curves,
    reconstruction_curves,
    accuracy_curves,
    r2_curves,
    gradient_norms,
    ensemble_weights,
    time_per_block,
    memory,
    storage,
)
"""In the order of the page; each gives None where the runs have nothing to draw."""


def all_charts(runs: Sequence[ReportedRun]) -> list[Chart]:
    """The plots that these runs have data for."""
    return [chart for make in MAKERS if (chart := make(runs)) is not None]
