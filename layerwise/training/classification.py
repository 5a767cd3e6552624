"""Which classes are taken for which: the confusion matrix, and one-vs-rest ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from layerwise.training.choices import LOSSES

CURVE_POINTS = 51
"""Points that a curve is thinned to, evenly spaced in the false positive rate."""

DETAILED_CLASSES = 100
"""With more classes the matrix and the curves would be larger than all else; only the areas are given."""


def classification_report(
    z: Tensor, targets: Tensor, classes: Sequence[str], loss: str = "cross_entropy"
) -> dict[str, Any]:
    """Computes the confusion matrix, ROC curves and the areas under them with scikit-learn.

    Args:
        z: [N, c] class scores, on the CPU.
        targets: [N] int64, on the CPU.
        loss: that the scores were trained with; it decides how they become probabilities.

    Returns:
        `classes`; `auc`, area under the curve of each class against the rest in [0, 1], None for a class
        without or with only such samples, or whose probabilities are not all finite; `macro_auc`, the mean of the
        areas that exist. With at most `DETAILED_CLASSES` also `confusion_matrix`, [true][predicted] counts; and `roc`,
        for each class `true_positive_rate` at the common `false_positive_rate`.
    """
    from sklearn.metrics import auc, confusion_matrix, roc_curve  # slow to import, and needed here only

    scores, labels = LOSSES[loss].probabilities(z.double()).numpy(), targets.numpy()
    grid = np.linspace(0, 1, CURVE_POINTS)
    areas: list[float | None] = []
    curves: list[list[float] | None] = []
    for c in range(len(classes)):
        is_class = labels == c
        if is_class.all() or not is_class.any() or not np.isfinite(scores[:, c]).all():
            areas.append(None)
            curves.append(None)
            continue
        false_positives, true_positives, _ = roc_curve(is_class, scores[:, c])
        areas.append(float(auc(false_positives, true_positives)))
        curves.append(np.interp(grid, false_positives, true_positives).round(5).tolist())
    known = [area for area in areas if area is not None]
    report: dict[str, Any] = {
        "classes": list(classes),
        "auc": areas,
        "macro_auc": float(np.mean(known)) if known else None,
    }
    if len(classes) <= DETAILED_CLASSES:
        predicted = z.topk(min(5, len(classes)), dim=1).indices[:, 0].numpy()  # ties go as in `evaluate.accuracies`
        matrix = confusion_matrix(labels, predicted, labels=range(len(classes)))
        report["confusion_matrix"] = matrix.tolist()
        report["roc"] = {"false_positive_rate": grid.round(5).tolist(), "true_positive_rate": curves}
    return report
