"""What a trained network says of images, at each depth.

    python predict.py run=FOLDER image=FILE image=FILE …
    python predict.py run=FOLDER image=[FILE,FILE] format=json
    python predict.py run=FOLDER *.png

run     a run folder; of an unfinished run the finished depths are asked
image   an image file or a folder (all images below it); given several times, as a list, or as plain words
device  auto, cpu, cuda, cuda:N (default auto)
format  table, or json: a list with an entry per image (default table)

The class is that of the last classifier, whose test accuracy results.json gives as `final`; the ensemble weighs the
classifier at depth j with 2^j. Confidence is the largest softmax output: how sure the network is, which is not how
often it is right. Of a run with evaluation.mirror=true the mirror image is asked, too, as it was there.
Images of another size are resized and cut as the held-out images of the run's data set are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from layerwise.analysis.predicting import Guess, Prediction, image_files, predict_files
from layerwise.commands.errors import reported
from layerwise.core.errors import LayerwiseError, suggest
from layerwise.core.precision import choose_device
from layerwise.reporting.tables import show
from layerwise.runs.loading import load

KEYS = ("run", "image", "device", "format")
FORMATS = ("table", "json")


def main(words: Sequence[str]) -> None:
    if {"--help", "-h"} & set(words):
        print(str(__doc__).strip())
        return
    options = read_words(words)
    run, device, form = (only(options, key) for key in ("run", "device", "format"))
    if form not in FORMATS:
        raise LayerwiseError(f"format={form}: unknown format.{suggest(form, FORMATS)}")
    paths = [path for name in options["image"] for path in image_files(Path(name))]
    predictions = predict_files(load(run, choose_device(device)), paths)
    if form == "json":
        print(json.dumps([entry(path, made) for path, made in zip(paths, predictions, strict=True)], indent=1))
    else:
        show(table(paths, predictions))


def read_words(words: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key, of which words without a key are images.

    Raises:
        LayerwiseError: an unknown key, or one that is missing.
    """
    options: dict[str, list[str]] = {key: [] for key in KEYS}
    for word in words:
        key, is_option, value = word.partition("=")
        if not is_option or (key not in options and Path(word).exists()):  # a file may have a = in its name
            key, value = "image", word
        if key not in options:
            raise LayerwiseError(f"unknown key '{key}'.{suggest(key, KEYS)}")
        is_list = value.startswith("[") and value.endswith("]") and not Path(value).exists()
        options[key] += [part.strip() for part in value[1:-1].split(",")] if is_list else [value]
    options = {"device": ["auto"], "format": ["table"]} | {key: values for key, values in options.items() if values}
    for key in ("run", "image"):
        if key not in options:
            raise LayerwiseError(f"{key}=… is missing. Write: python predict.py run=FOLDER image=FILE.")
    return options


def only(options: dict[str, list[str]], key: str) -> str:
    """The value of a key that has one."""
    if len(options[key]) > 1:
        raise LayerwiseError(f"{key}={options[key][-1]}: {key} is given {len(options[key])} times; give it once.")
    return options[key][0]


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


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
