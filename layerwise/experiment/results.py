"""The content of results.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from layerwise.config.resolved import ResolvedConfig
from layerwise.core.machine import git_commit, hardware, versions
from layerwise.core.measures import quality
from layerwise.core.precision import Precision
from layerwise.features.cache_plan import CacheDecision
from layerwise.runs.finished import FinishedStage
from layerwise.training.plan import Agenda, Stage

SCHEMA = 1
"""Version of results.json."""


def assemble_results(
    config: ResolvedConfig,
    name: str,
    data: str,
    agenda: Agenda,
    finished: Sequence[FinishedStage],
    parameters: int,
    status: str,
) -> dict[str, Any]:
    """Returns what was trained and how good it is: results.json without `run_facts`.

    Args:
        config: the resolved configuration.
        data: what the data set is called: of a table or a folder its own name.
        parameters: number of parameters of the resulting network, all its blocks and their last head.
        status: "running", "completed", "interrupted", "failed" or `ENDED_EARLY`.
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
            **{f"test_{name}": value for name, value in last["test"].items() if name != "loss"},
            **{f"ensemble_{name}": value for name, value in last["ensemble"].items()},
            "parameters": parameters,
        }
    return {
        "schema": SCHEMA,
        "status": status,
        "name": name,
        "seed": config.seed,
        "model": config.model.name,
        "dataset": data,
        "plan": config.plan.name,
        "k": config.k,
        "J": config.J,
        "mirrored": config.evaluation.mirror,  # whether class scores are means over an image and its mirror image
        "blocks": rows,
        "stages": [stage_entry(stage, outcome) for stage, outcome in zip(stages, finished, strict=False)],
        "final": final,
        "seconds": sum(spent(outcome.rows[0]) for outcome in finished),  # all rows of a stage have the same
    }


MEASURES = ("train", "validation", "test", "ensemble", "reconstruction")
"""The entries of a row that say how good a depth is."""


def stage_entry(stage: Stage, outcome: FinishedStage) -> dict[str, Any]:
    """Returns an entry of `stages`: what the stage trained, and how good its last depth was then."""
    row = outcome.rows[-1]
    return {
        "stage": stage.index + 1,
        "title": stage.title,
        "target": stage.target,
        "block": stage.stop,
        "epochs": stage.epochs,
        **({"kept_epoch": row["kept_epoch"]} if "kept_epoch" in row else {}),
        **{name: row[name] for name in MEASURES if name in row},
    }


def improvements(rows: list[dict[str, Any]]) -> dict[int, dict[str, bool]]:
    """Returns, for each depth, whether its validation scores and its training loss are the best so far.

    Args:
        rows: rows of the grown depths, before any fine-tuning.
    """
    best, loss = -math.inf, math.inf
    found: dict[int, dict[str, bool]] = {row["block"]: {} for row in rows}
    for row in rows:
        if "validation" in row:
            found[row["block"]]["improved"] = quality(row["validation"]) > best
            best = max(best, quality(row["validation"]))
        if "train" in row:
            found[row["block"]]["improved_loss"] = row["train"]["loss"] < loss
            loss = min(loss, row["train"]["loss"])
    return found


def spent(row: dict[str, Any]) -> float:
    """Returns the seconds that this run spent on a row's stage: 0 if it was taken from another run."""
    return 0.0 if "reused" in row else sum(row["seconds"].values())


@dataclass(frozen=True)
class Row:
    """What is known of one depth: an entry of `blocks` in results.json.

    Attributes:
        entries: values by their names in results.json. `before` holds the values that a later stage replaced.
    """

    entries: dict[str, Any]

    def superseded_by(self, later: dict[str, Any], retrained: bool) -> Row:
        """Returns the row after another stage has read the depth.

        The later values count. Measures that they replace, and all measures if the blocks were trained again, move to
        `before`, where the first value of each stays. The parameters are those of both stages, the times their sums.

        Args:
            retrained: whether it trained blocks.
        """
        stale = [name for name in MEASURES if name in self.entries and (name in later or retrained)]
        entries = {name: value for name, value in self.entries.items() if name not in stale} | later
        entries["parameters"] = self.entries["parameters"] | later["parameters"]
        entries["seconds"] = {name: self.entries["seconds"][name] + value for name, value in later["seconds"].items()}
        if stale:
            replaced = {name: self.entries[name] for name in ("parameters", *stale)}
            entries["before"] = replaced | self.entries.get("before", {})
        return Row(entries)


def merge_rows(stages: Sequence[Stage], finished: Sequence[FinishedStage]) -> list[dict[str, Any]]:
    """Returns an entry of `blocks` for each depth, from the rows of all finished stages that read it."""
    rows: dict[int, Row] = {}
    for stage, outcome in zip(stages, finished, strict=False):
        for reported in outcome.rows:
            earlier = rows.get(reported["block"])
            retrained = stage.start < stage.stop
            rows[reported["block"]] = earlier.superseded_by(reported, retrained) if earlier else Row(reported)
    return [row.entries for row in rows.values()]


def run_facts(decision: CacheDecision, precision: Precision, device: torch.device) -> dict[str, Any]:
    """Returns what is known before the training: cache, precision, hardware, versions and commit."""
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
