"""The command that a report shows."""

from __future__ import annotations

import shlex
from pathlib import Path

from layerwise.runs.run_files import COMMAND, CONFIG, read_text


def command_of(folder: Path) -> str:
    """The command that began a run.

    Of a run that an earlier version began, or that no command did, the one that reads its configuration.
    """
    command = read_text(folder / COMMAND, "Remove it: a report then shows how to read the configuration.")
    if command is None:
        words = ["--config-dir", folder.name, "--config-name", Path(CONFIG).stem]
        return shlex.join(["layerwise", "train", *words, "hydra.run.dir=.", "hydra.output_subdir=null"])
    return command.strip()
