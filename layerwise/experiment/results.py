"""The content of results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from layerwise.config.resolved import ResolvedConfig
from layerwise.core.machine import git_commit, hardware, versions
from layerwise.core.precision import Precision
from layerwise.features.cache_plan import CacheDecision
from layerwise.runs.finished import FinishedStage
from layerwise.training.plan import Agenda, Stage

SCHEMA = 1
"""Version of results.json."""


def assemble_results(
    config: ResolvedConfig,
    name: str,
    agenda: Agenda,
    finished: Sequence[FinishedStage],
    parameters: int,
    status: str,
) -> dict[str, Any]:
    """What was trained and how good it is: results.json but for `run_facts`.

    Args:
        config: of the run, resolved.
        name: of the run folder.
        agenda: the run's stages.
        finished: the first of them.
        parameters: of the network that is the result, all its blocks and their last head.
        status: "running", "completed", "interrupted" or "failed".
    """
    reported = [outcome.rows for outcome in finished]
    stages, grown, depth = agenda.stages(reported), agenda.grown(reported), agenda.depth(reported)
    improved = improvements(merge_rows(grown, finished[: len(grown)]))
    rows = [row | improved.get(row["block"], {}) for row in merge_rows(stages, finished)]
    scored = [row for row in rows if "test" in row]
    final = None
    if scored:
        last = next((row for row in scored if row["block"] == depth), scored[-1])
        final = {
            "block": last["block"],
            "test_top1": last["test"]["top1"],
            "test_top5": last["test"]["top5"],
            "ensemble_top1": last["ensemble"]["top1"],
            "ensemble_top5": last["ensemble"]["top5"],
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
        "mirrored": config.evaluation.mirror,  # class scores are means over an image and its mirror image
        "blocks": rows,
        "stages": [stage_entry(stage, outcome) for stage, outcome in zip(stages, finished, strict=False)],
        "final": final,
        "seconds": sum(spent(outcome.rows[0]) for outcome in finished),  # the rows of a stage share them
    }


MEASURES = ("train", "validation", "test", "ensemble", "reconstruction")
"""What a row says of quality."""


def stage_entry(stage: Stage, outcome: FinishedStage) -> dict[str, Any]:
    """One stage: what it trained, and how good its last depth was then."""
    row = outcome.rows[-1]
    return {
        "stage": stage.index + 1,
        "title": stage.title,
        "target": stage.target,
        "block": stage.stop,
        "epochs": stage.epochs,
        **{name: row[name] for name in MEASURES if name in row},
    }


def improvements(rows: list[dict[str, Any]]) -> dict[int, dict[str, bool]]:
    """By depth, whether it is the best so far, where samples are held out to choose by.

    Args:
        rows: of the depths, as they were when growing went on.
    """
    best, found = -1.0, {}
    for row in rows:
        if "validation" in row:
            found[row["block"]] = {"improved": row["validation"]["top1"] > best}
            best = max(best, row["validation"]["top1"])
    return found


def spent(row: dict[str, Any]) -> float:
    """Seconds that this run spent on a row's stage: none if another run trained it."""
    return 0.0 if "reused" in row else sum(row["seconds"].values())


def merge_rows(stages: Sequence[Stage], finished: Sequence[FinishedStage]) -> list[dict[str, Any]]:
    """A row per depth: what the last stages that read it say.

    What an earlier stage said and is no longer so, since a later one says it anew or trained the blocks again, stands
    in `before`; of several values the first.
    """
    rows: dict[int, dict[str, Any]] = {}
    for stage, row in ((stage, row) for stage, outcome in zip(stages, finished, strict=False) for row in outcome.rows):
        if earlier := rows.get(row["block"]):
            retrained = stage.start < stage.stop
            stale = {name: earlier[name] for name in MEASURES if name in earlier and (name in row or retrained)}
            before = ({"parameters": earlier["parameters"]} if stale else {}) | stale | earlier.get("before", {})
            kept = {name: value for name, value in earlier.items() if name not in stale}
            summed = {name: value + earlier["seconds"][name] for name, value in row["seconds"].items()}
            parameters = earlier["parameters"] | row["parameters"]
            row = kept | row | {"parameters": parameters, "seconds": summed} | ({"before": before} if before else {})
        rows[row["block"]] = row
    return list(rows.values())


def run_facts(decision: CacheDecision, precision: Precision, device: torch.device) -> dict[str, Any]:
    """How and on what it was computed."""
    return {
        "cache": {
            "kind": decision.kind,
            "place": decision.place,
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
