"""What the campaigns share that train: a small run in a fork of this process, and what it left in its folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra.main  # noqa: F401 (here and below: loaded once, for all forks)
import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401
import torchvision  # noqa: F401
from _campaign_judging import Outcome, in_child

import layerwise.commands.multirun
import layerwise.commands.report
import layerwise.commands.train
import layerwise.experiment.run
import layerwise.reporting.html.page  # noqa: F401
from layerwise.__main__ import main
from layerwise.runs.run_files import RESULTS, read_results

TINY = (
    *("dataset=digits", "dataset.limit=60", "dataset.limit_test=40", "k=1", "J=2", "epochs=2", "batch_size=20"),
    *("model.width=4", "model.downsample=[2]", "device=cpu", "precision=fp32", "progress=off", "name=run"),
)
"""A run of two stages, which takes a fraction of a second."""


def command(words: Sequence[str], before: Callable[[], object] = lambda: None) -> Outcome:
    """Runs `layerwise WORDS` in a fork of this process.

    Args:
        words: of the command line.
        before: is called in the fork first.
    """

    def act() -> None:
        before()
        sys.argv = ["layerwise", *words]
        main(list(words))

    return in_child(act)


def rows(folder: Path) -> list[dict[str, Any]] | None:
    """Returns the numbers of a completed run that do not depend on the clock or the machine."""
    results = read_results(folder / RESULTS)
    if results is None or results["status"] != "completed":
        return None
    timed = ("seconds", "images_per_second", "peak_memory_mb", "memory_mb")
    return [{name: value for name, value in row.items() if name not in timed} for row in results["blocks"]]


def files(folder: Path) -> set[str]:
    """Returns the names of all files and folders below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
