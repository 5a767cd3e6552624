"""Predicts the classes of images, or the rows of a table, with a trained network.

    layerwise predict RUN FILE FILE …
    layerwise predict RUN FOLDER --format json
    layerwise predict RUN TABLE.csv > predictions.csv

The class is the prediction of the last classifier, whose test accuracy results.json calls `final`. The ensemble weighs
the classifier at depth j with 2^j. Confidence is the largest softmax output, which is not how often the prediction is
right. Of an unfinished run the finished depths predict. A run with evaluation.mirror=true also averages over the
mirror image. Images are resized and cropped as the held-out images of the run's data set. Of a run on a table the
columns of the file are printed as CSV with prediction, confidence and the ensemble's prediction behind them; with
dataset.task=regression prediction and ensemble are values of the target, and there is no confidence.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from layerwise.analysis.predicting import Guess, Prediction, image_files, predict_files, predict_table
from layerwise.commands.arguments import Parser, modern, named
from layerwise.config.datasets.table import TableConfig
from layerwise.core.precision import choose_device
from layerwise.reporting.tables import show
from layerwise.runs.depth_search import run_config
from layerwise.runs.loading import load

if TYPE_CHECKING:
    import pandas as pd


def main(words: Sequence[str]) -> None:
    parser = Parser("predict", __doc__)
    parser.add_argument("run", type=named, metavar="RUN", help="run folder")
    parser.add_argument("images", type=named, nargs="+", metavar="IMAGE", help="image file, folder of images, or table")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument("--format", choices=["table", "json"], default="table", help="default: table")
    parser.add_trust()
    options = parser.parse_args(modern(words, ["run", "image"], ["device", "format"]))
    paths = [path for name in options.images for path in image_files(name)]
    network = load(options.run, choose_device(options.device), options.trust)
    if len(paths) == 1 and isinstance(dataset := run_config(options.run).dataset, TableConfig):
        rows = predict_table(network, dataset.files, paths[0])
        print(json_of(rows) if options.format == "json" else rows.to_csv(index=False), end="")
        return
    predictions = predict_files(network, paths)
    if options.format == "json":
        print(json.dumps([entry(path, made) for path, made in zip(paths, predictions, strict=True)], indent=1))
    else:
        show(table(paths, predictions))


def json_of(rows: pd.DataFrame) -> str:
    """The rows as JSON, numbers with all their digits; null for NaN and infinity, which JSON does not have."""
    records = [
        {str(name): None if isinstance(v, float) and not math.isfinite(v) else v for name, v in record.items()}
        for record in rows.to_dict(orient="records")
    ]
    return json.dumps(records, indent=1, allow_nan=False)


def entry(path: Path, prediction: Prediction) -> dict[str, Any]:
    """An image in the JSON output."""

    def told(guess: Guess) -> dict[str, Any]:
        return {"class": guess.name, "confidence": guess.confidence}

    depths = [{"block": depth, **told(guess)} for depth, guess in prediction.by_depth.items()]
    return {"image": str(path), **told(prediction.result), "depths": depths, "ensemble": told(prediction.ensemble)}


def table(paths: Sequence[Path], predictions: Sequence[Prediction]) -> Table:
    """A row per image; what the depths say stands beside the result where there are several."""
    whole = [path.absolute() for path in paths]
    folder, depths = os.path.commonpath([path.parent for path in whole]), list(predictions[0].by_depth)
    made = Table("image", "class", "confidence", title=Text(f"images of {folder}"), title_justify="left")
    made.columns[0].overflow = "fold"  # names of files are never cut short
    made.columns[2].justify = "right"
    if len(depths) > 1:
        for name in (*(f"depth {depth}" for depth in depths), "ensemble"):
            made.add_column(name, justify="right")
    for path, prediction in zip(whole, predictions, strict=True):
        result = prediction.result
        more = (*prediction.by_depth.values(), prediction.ensemble) if len(depths) > 1 else ()
        name = str(path.relative_to(folder))
        cells = (name, result.name, percent(result), *(f"{guess.name}\n{percent(guess)}" for guess in more))
        made.add_row(*map(Text, cells))  # a name in brackets is no markup
    return made


def percent(guess: Guess) -> str:
    return f"{100 * guess.confidence:.1f} %"
