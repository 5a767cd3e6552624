"""`plan.search_fraction`: a search on a part of the data chooses the depth that is then trained on all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layerwise.config.groups.outputs import ProgressName
from layerwise.config.resolved import ResolvedConfig
from layerwise.core import distributed
from layerwise.core.errors import Interrupted, LayerwiseError
from layerwise.core.measures import quality
from layerwise.runs.depth_search import final_config, search_config
from layerwise.runs.folder import RunFolder


def search_depth(
    config: ResolvedConfig,
    folder: RunFolder,
    samples: int,
    run_in_folder: Callable[[ResolvedConfig], tuple[dict[str, Any], Path]],
) -> tuple[ResolvedConfig, dict[str, Any]]:
    """Runs the search in a folder below the run's, or finds its results there.

    Args:
        config: the resolved configuration of the run.
        run_in_folder: trains the configuration of the search; returns results and folder.

    Returns:
        The configuration with the chosen depth, and what results.json says about the search.
    """
    try:
        found, _ = run_in_folder(search_config(config, folder.path, samples))
    except Interrupted:
        raise
    except LayerwiseError as error:
        error.args = (f"in the search for the depth (plan.search_fraction): {error}",)
        raise
    depth = found["final"]["block"]
    folder.check_searched(depth)
    if config.progress is ProgressName.auto and distributed.is_main():
        print(f"the search chose depth {depth}; it is now trained on all samples", file=sys.stderr)
    search = {
        "fraction": config.plan.search_fraction,
        "block": depth,
        "validation": [quality(row["validation"]) for row in found["blocks"]],
        "seconds": found["seconds"],
        "pflop": found.get("pflop"),  # results of earlier versions lack it
    }
    return final_config(config, depth), {"search": search}
