"""Cross-validates: trains one run for each fold of the training samples, and averages over the folds.

    layerwise cross_validate experiment=tutorial_blobs_supervised J=3
    layerwise cross_validate --folds 10 --json FILE dataset=digits plan.patience=2

The words KEY=VALUE are arguments of layerwise train; dataset.folds=N and dataset.fold=1 … N are added. A fold replaces
the validation split of an experiment file. Finished folds are not trained again, and a stopped one continues.

The table has a row for each depth: mean ± sample standard deviation over the folds, and in how many folds its
validation accuracy was the best (of equal depths the smaller one counts). Runs that choose their depth (plan.patience)
need not all reach a depth: `folds` says how many did. The last line is about the depth that each run ends with. --json
also writes the values of each fold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from layerwise.commands.arguments import Parser, named
from layerwise.commands.in_process import run_here
from layerwise.core.errors import LayerwiseError, NonFiniteLoss
from layerwise.core.files import write_atomically
from layerwise.core.measures import ACCURACY, measure_of, quality
from layerwise.core.spread import spread, with_spread
from layerwise.reporting.tables import numbers_table, show

REFUSED = {
    "dataset.folds": "set by --folds",
    "dataset.fold": "set for each fold",
    "name": "each fold has its own run folder; use output_dir=FOLDER",
    "summary": "use layerwise train",
}
"""Keys that are refused, and why."""


def main(words: Sequence[str]) -> None:
    parser = Parser("cross_validate", __doc__)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="arguments of layerwise train")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="2 or more (default 5)")
    parser.add_argument("--json", type=named, metavar="FILE", help="also write the figures there")
    options = parser.parse_intermixed_args(words)
    if options.folds < 2:
        raise LayerwiseError(f"--folds {options.folds}: must be 2 or more.")
    for key in (word.lstrip("+").split("=")[0] for word in options.words):
        if key in REFUSED:
            raise LayerwiseError(f"{key}=…: {REFUSED[key]}. Remove it.")
    runs, folders = zip(*run_folds(options.folds, options.words), strict=True)
    record = {"folds": options.folds, "arguments": options.words, "runs": list(map(str, folders)), **put_together(runs)}
    show(table(record))
    print(result_line(record))
    if options.json:
        write_atomically(options.json, json.dumps(record, indent=1) + "\n", kept="The runs are intact.")


def run_folds(folds: int, words: list[str]) -> list[tuple[dict[str, Any], Path]]:
    """Trains all folds; returns results and folder of each.

    Raises:
        LayerwiseError, HydraException: as layerwise train would report.
    """
    runs = []
    for fold in range(1, folds + 1):
        own = [f"dataset.folds={folds}", f"dataset.fold={fold}"]
        try:
            # the first word replaces the split of an experiment file; a split among `words` comes later and is refused
            runs.append(run_here(["dataset.validation=0", *words, *own]))
        except NonFiniteLoss as error:
            raise LayerwiseError(f"fold {fold} of {folds}: {error}") from error
    return runs


def put_together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Averages over folds. `depths`: a row for each depth that any fold reached; `result`: the final depths."""
    by_depth = [{row["block"]: row for row in run["blocks"] if "validation" in row} for run in runs]
    best = Counter(max(sorted(rows), key=lambda d: quality(rows[d]["validation"])) for rows in by_depth)
    depths = []
    for depth in sorted(set().union(*by_depth)):
        reached = {fold: rows[depth] for fold, rows in enumerate(by_depth, 1) if depth in rows}
        figures = qualities(list(reached.values()))
        depths.append({"block": depth, "in_folds": list(reached), **figures, "best": best[depth]})
    chosen = [run["final"]["block"] for run in runs]
    last = [rows[depth] for rows, depth in zip(by_depth, chosen, strict=True)]
    measure = measure_of(last[0]["validation"]) or ACCURACY
    return {"measure": measure.name, "depths": depths, "result": {"block": chosen, **qualities(last)}}


def qualities(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracies in %, or R²."""
    return {split: spread([quality(row[split]) for row in rows]) for split in ("validation", "test")}


def table(record: dict[str, Any]) -> Table:
    measure = measure_of([record["measure"]]) or ACCURACY
    headings = ("depth", "folds", f"validation {measure.unit}", f"test {measure.unit}", "best in")
    made = numbers_table(f"{record['folds']} folds: mean ± standard deviation", *headings, min_width=60)
    for row in record["depths"]:
        figures = [with_spread(row[split], measure.form) for split in ("validation", "test")]
        reached = f"{len(row['in_folds'])} of {record['folds']}"
        made.add_row(str(row["block"]), reached, *figures, f"{row['best']} of {record['folds']}")
    return made


def result_line(record: dict[str, Any]) -> str:
    """The last line: accuracies or R² at the final depths."""
    result, measure = record["result"], measure_of([record["measure"]]) or ACCURACY
    depths = ", ".join(f"depth {depth} in {n}" for depth, n in sorted(Counter(result["block"]).items()))
    validation, test = (measure.told(with_spread(result[split], measure.form)) for split in ("validation", "test"))
    return f"the result ({depths} of {len(result['block'])} folds): validation {validation}, test {test}"
