"""A run of `layerwise train` in this process, for commands that put several runs together."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerwise.commands.compose import configuration
from layerwise.core.precision import choose_device, choose_precision
from layerwise.experiment.run import run_in_folder


def run_here(words: Sequence[str]) -> tuple[dict[str, Any], Path]:
    """Results and folder of `layerwise train` with some arguments, in this process; a finished run is only read.

    Raises:
        LayerwiseError, HydraException: as `layerwise train` would report.
    """
    config = configuration(words)
    print("$", shlex.join(["layerwise", "train", *words]), file=sys.stderr, flush=True)
    device = choose_device(config.device)
    return run_in_folder(config, device, choose_precision(config.precision, device))
