"""`plan.search_fraction`: the depth is chosen on a part of the data, and that depth then trained on all of it.

The search is a run of its own in the folder `search` of the run: it grows with patience on fewer
training samples. The run's own stages then train a network of the chosen depth from the beginning.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from layerwise.config.parse import from_yaml
from layerwise.config.plans.base import ResolvedGrowing
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.errors import LayerwiseError
from layerwise.runs.run_files import CONFIG, RESULTS, SEARCH, DamagedRunFile, read_results


def search_config(config: ResolvedConfig, folder: Path, samples: int) -> ResolvedConfig:
    """The search that belongs to a run: without patience it grows to the end and takes the best depth."""
    plan, fraction = config.plan, config.plan.search_fraction
    assert isinstance(plan, ResolvedGrowing)
    assert fraction is not None
    wandb = replace(config.logger.wandb, job_type=SEARCH)  # a run of its own there, too, beside those it serves
    return replace(
        config,
        name=SEARCH,
        output_dir=str(folder),
        report=False,
        dataset=replace(config.dataset, limit=max(1, round(fraction * samples))),
        plan=replace(
            plan,
            search_fraction=None,
            patience=config.J if plan.patience is None else plan.patience,
            finetune=type(plan.finetune)(),
        ),
        logger=replace(config.logger, wandb=wandb),
    )


def final_config(config: ResolvedConfig, depth: int) -> ResolvedConfig:
    """The run on all data, once the depth is known."""
    assert isinstance(config.plan, ResolvedGrowing)
    plan = replace(config.plan, search_fraction=None, patience=None, max_blocks=None)
    return replace(config, J=depth, model=config.model.first_blocks(depth), plan=plan)


def run_config(folder: Path, trust: bool = False) -> ResolvedConfig:
    """The resolved configuration of the network in a run folder, with the depth that a search chose.

    Args:
        trust: whether code of other packages that it names may be imported when it is needed.

    Raises:
        LayerwiseError: no run folder, or its search is not finished.
    """
    config = resolve(from_yaml(folder / CONFIG, trust))
    if config.plan.search_fraction is None:
        return config
    found = found_depth(folder)
    if found is None:
        raise LayerwiseError(f"{folder}: the search for the depth is not finished yet; run its command to the end.")
    return final_config(config, found)


def found_depth(folder: Path) -> int | None:
    """The depth that the finished search of a run chose, or None."""
    try:
        results = read_results(folder / SEARCH / RESULTS)
    except DamagedRunFile:  # the run's command says so, and writes it anew
        return None
    return int(results["final"]["block"]) if results and results["status"] == "completed" else None
