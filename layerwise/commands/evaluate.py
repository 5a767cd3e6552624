"""Scores a trained network on other data: a row per depth, with the ensemble of all heads up to there.

    layerwise evaluate RUN                                             the run's own test samples
    layerwise evaluate RUN dataset=imagefolder dataset.root=FOLDER dataset.size=32 --split all
    layerwise evaluate RUN dataset=table dataset.path=FILE.csv --format csv > scores.csv

dataset=… and its keys are those of `layerwise train`. The data must have the shape and the number of classes that the
run was trained on, tables the same columns. Samples are scaled as in the run and not augmented; a run with
evaluation.mirror=true also averages over mirror images. --split all takes training, validation and test samples
together: another data set has been trained on by no one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.table import Table

from layerwise.analysis.evaluating import SPLITS, evaluate
from layerwise.commands.arguments import Parser, named
from layerwise.commands.compose import composed
from layerwise.config.parse import parse
from layerwise.core.errors import LayerwiseError
from layerwise.core.measures import ACCURACY, R2, measure_of
from layerwise.core.precision import choose_device
from layerwise.reporting.tables import numbers_table, show


def main(words: Sequence[str]) -> None:
    parser = Parser("evaluate", __doc__)
    parser.add_argument("run", type=named, metavar="RUN", help="run folder")
    parser.add_argument("data", nargs="*", metavar="dataset=NAME", help="the data, and dataset.KEY=VALUE")
    parser.add_argument("--split", choices=list(SPLITS), default="test", help="default: test")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table", help="default: table")
    parser.add_trust()
    options = parser.parse_intermixed_args(words)
    other = [word for word in options.data if not word.lstrip("+").startswith(("dataset=", "dataset."))]
    if other:
        raise LayerwiseError(f"{other[0]}: only the data can be chosen: dataset=NAME and dataset.KEY=VALUE.")
    if options.data and not any(word.startswith(("dataset=", "dataset._target_=")) for word in options.data):
        raise LayerwiseError(f"{options.data[0]}: name the data set, too: dataset=NAME.")
    given = parse(composed(options.data)) if options.data else None
    found = evaluate(options.run, given, options.split, choose_device(options.device), options.trust)
    for note in found["notes"]:
        print(note, file=sys.stderr)
    if options.format == "json":
        print(json.dumps(found, indent=1))
    elif options.format == "csv":
        print(pd.DataFrame([flat(row) for row in found["blocks"]]).to_csv(index=False), end="")
    else:
        show(table(found))


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row of CSV: `block`, `loss`, `top1`, `ensemble_top1` and so on."""
    together = {f"ensemble_{name}": value for name, value in row["ensemble"].items()}
    return {"block": row["block"], **row["scores"], **together}


def table(found: dict[str, Any]) -> Table:
    """A row per depth."""
    measure = measure_of(found["blocks"][0]["scores"]) or ACCURACY
    further = "mae" if measure is R2 else "top5"
    named = {"mae": "MAE", "top5": "top-5 %"}[further]
    extra = [named] if further in found["blocks"][0]["scores"] else []
    samples = f"{found['samples']:,} samples of {found['dataset']} ({found['split']})"
    made = numbers_table(
        f"{found['run']} on {samples}", "block", "loss", measure.unit, *extra, f"ensemble {measure.unit}"
    )
    for row in found["blocks"]:
        scores, together = row["scores"], row["ensemble"]
        more = [f"{scores[further]:.4g}"] if extra else []
        numbers = [f"{scores['loss']:.4f}" if "loss" in scores else "–", measure.number(scores[measure.name]), *more]
        made.add_row(str(row["block"]), *numbers, measure.number(together[measure.name]))
    return made
