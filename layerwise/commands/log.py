"""Sends runs to W&B or TensorBoard from their files: runs that lost their connection, or were trained without.

    layerwise log outputs/RUN logger=wandb
    layerwise log outputs logger=[wandb,tensorboard]                 all runs below a folder
    layerwise log RUN RUN logger=wandb logger.wandb.mode=offline logger.wandb.project=thesis

What a logger has already is not sent again. The keys are those of `layerwise train`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from layerwise.analysis.collecting import runs_below
from layerwise.commands.arguments import Parser
from layerwise.commands.compose import configuration
from layerwise.config.groups.outputs import LoggerConfig
from layerwise.config.parse import from_yaml
from layerwise.core.errors import LayerwiseError
from layerwise.reporting.loggers.choice import check_loggers, send
from layerwise.runs.folder import in_use
from layerwise.runs.run_files import CONFIG


def main(words: Sequence[str]) -> int:
    parser = Parser("log", __doc__)
    parser.add_argument(
        "words", nargs="+", metavar="RUN|logger=…", help="run folders, folders that hold runs, and keys"
    )
    given: list[str] = parser.parse_args(words).words
    folders = [Path(word) for word in given if "=" not in word or Path(word).exists()]
    logger = chosen([word for word in given if Path(word) not in folders])
    if not folders:
        raise LayerwiseError("no run is given: `layerwise log RUN logger=wandb`.")
    problems: list[str] = []
    for folder in dict.fromkeys(folder for _, folder in runs_below(folders)):
        try:
            send_one(folder, logger, problems.append)
        except LayerwiseError as error:  # the others are sent all the same
            problems.append(str(error))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def chosen(words: Sequence[str]) -> LoggerConfig:
    """The loggers that `logger=…` and its keys choose.

    Raises:
        LayerwiseError: another key, no logger, or one that is not installed.
    """
    if other := [word for word in words if not word.startswith(("logger=", "logger."))]:
        raise LayerwiseError(f"{other[0]}: only logger=… and its keys can be given, such as logger.wandb.project=NAME.")
    config = configuration(["dataset=digits", *words])
    check_loggers(config)
    if config.logger == LoggerConfig():
        raise LayerwiseError("no logger is given: add logger=NAME, such as logger=wandb.")
    return config.logger


def send_one(folder: Path, logger: LoggerConfig, warn: Callable[[str], None]) -> None:
    """Sends one run.

    Raises:
        LayerwiseError: it is being trained, or no stage is finished.
    """
    if in_use(folder):
        raise LayerwiseError(f"{folder}: is being trained; send it when that has ended.")
    print(folder, file=sys.stderr)
    send(replace(from_yaml(folder / CONFIG), logger=logger), folder, lambda text: print(text, file=sys.stderr), warn)
