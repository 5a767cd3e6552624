"""The command that a report shows."""

from __future__ import annotations

import shlex
from pathlib import Path

from layerwise.runs.folder import COMMAND, CONFIG


def command_of(folder: Path) -> str:
    """The command that began a run.

    Of a run that an earlier version began, or that no command did, the one that reads its configuration.
    """
    try:
        return (folder / COMMAND).read_text().strip()
    except FileNotFoundError:
        words = ["--config-dir", folder.name, "--config-name", Path(CONFIG).stem]
        return shlex.join(["layerwise", "train", *words, "hydra.run.dir=.", "hydra.output_subdir=null"])
