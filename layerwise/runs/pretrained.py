"""Blocks that begin with weights from elsewhere: of another run, or those that timm offers. The run keeps a copy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from torch import nn

from layerwise.config.networks.base import TIMM
from layerwise.config.networks.timm import ResolvedTimm
from layerwise.config.parse import from_yaml
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.models.blocknet import BlockNet
from layerwise.runs.checkpoints import Weights, read_pretrained
from layerwise.runs.loading import load
from layerwise.runs.run_files import CHECKPOINTS, CONFIG


def find_weights(config: ResolvedConfig, spec: DatasetSpec, network: BlockNet, folder: Path) -> Weights:
    """Returns the weights that the first blocks of a run begin with: of its copy if it has begun, else of their source.

    Args:
        network: that of the run.
        folder: of the run.

    Raises:
        LayerwiseError: there are no such weights, or they are of other blocks.
    """
    if not config.fresh and (kept := read_pretrained(folder / CHECKPOINTS)) is not None:
        return kept
    source = config.model.pretrained
    assert source is not None
    if source == TIMM:
        assert isinstance(config.model, ResolvedTimm)
        architecture = config.model.architecture(config.k, config.J, config.plan.whole)
        found = architecture.pretrained_blocks(spec.shape, spec.outputs)
    elif Path(source).resolve() == folder.resolve():
        raise LayerwiseError(f"model.pretrained={source}: is the folder of this run. Name another run's.")
    else:
        there, here = (
            {own.target for own in one.outside.values()} for one in (from_yaml(Path(source) / CONFIG), config)
        )
        found = list(load(source, trust=there <= here).blocks)  # the command has named this code
    for j, (theirs, mine) in enumerate(zip(found, network.blocks, strict=False), 1):
        if difference := first_difference(theirs, mine):
            raise LayerwiseError(
                f"model.pretrained={source}: block {j} is another one there ({difference[0]}) than here "
                f"({difference[1]}). Give this run the same keys of model."
            )
    if config.plan.frozen_blocks > len(found):
        raise LayerwiseError(
            f"plan.frozen_blocks={config.plan.frozen_blocks}: model.pretrained={source} has {len(found)} block(s)."
        )
    return [block.state_dict() for block in found[: len(network.blocks)]]


def first_difference(theirs: nn.Module, mine: nn.Module) -> tuple[str, str] | None:
    """Returns the first layer of two blocks in which they differ, or None."""
    for a, b in zip_longest(str(theirs).splitlines(), str(mine).splitlines(), fillvalue="no more layers"):
        if a != b:
            return a.strip(), b.strip()
    return None


def beginning(source: str, weights: Sequence[object], frozen: int) -> str:
    """Returns a sentence on what the blocks begin with."""
    blocks = "block 1 begins" if len(weights) == 1 else f"blocks 1–{len(weights)} begin"
    kept = f"; the first {frozen} stay as they are" if frozen else ""
    return f"{blocks} with the weights of {source}{kept}"
