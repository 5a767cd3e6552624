"""The content of results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from layerwise.cache_plan import CacheDecision
from layerwise.environment import git_commit, hardware, versions
from layerwise.finished import FinishedStage
from layerwise.precision import Precision
from layerwise.schema import Config

SCHEMA = 1
"""Version of results.json."""


def assemble_results(
    config: Config, name: str, finished: Sequence[FinishedStage], parameters: int, status: str
) -> dict[str, Any]:
    """What was trained and how good it is: results.json but for `run_facts`.

    Args:
        config: of the run, resolved.
        name: of the run folder.
        finished: stages so far.
        parameters: of the final network, all blocks and the last head.
        status: "running", "completed", "interrupted" or "failed".
    """
    rows = merge_rows(finished)
    final = None
    if rows:
        final = {
            "test_top1": rows[-1]["test"]["top1"],
            "test_top5": rows[-1]["test"]["top5"],
            "ensemble_top1": rows[-1]["ensemble"]["top1"],
            "ensemble_top5": rows[-1]["ensemble"]["top5"],
            "parameters": parameters,
        }
    return {
        "schema": SCHEMA,
        "status": status,
        "name": name,
        "seed": config.seed,
        "model": config.model.name,
        "dataset": config.dataset.name,
        "plan": config.plan.name.value,
        "k": config.k,
        "J": config.J,
        "blocks": rows,
        "final": final,
        "seconds": sum(spent(outcome.rows[0]) for outcome in finished),  # the rows of a stage share them
    }


def spent(row: dict[str, Any]) -> float:
    """Seconds that this run spent on a row's stage: none if another run trained it."""
    return 0.0 if "reused" in row else sum(row["seconds"].values())


def merge_rows(finished: Sequence[FinishedStage]) -> list[dict[str, Any]]:
    """A row per depth: that of the last stage that read it, with what the stage before gave as `before`."""
    rows: dict[int, dict[str, Any]] = {}
    for row in (row for outcome in finished for row in outcome.rows):
        if earlier := rows.get(row["block"]):
            kept = ("train", "validation", "test", "ensemble", "parameters")
            seconds = {name: value + earlier["seconds"][name] for name, value in row["seconds"].items()}
            row = row | {"seconds": seconds, "before": {name: earlier[name] for name in kept if name in earlier}}
        rows[row["block"]] = row
    return list(rows.values())


def run_facts(decision: CacheDecision, precision: Precision, device: torch.device) -> dict[str, Any]:
    """How and on what it was computed."""
    return {
        "cache": {
            "kind": decision.kind,
            "views": decision.views,
            "dtype": decision.codec.dtype.value,
            "exact": decision.exact,
            "bytes": decision.bytes,
        },
        "precision": precision.name,
        "hardware": hardware(device),
        "versions": versions(),
        "git_commit": git_commit(),
    }
