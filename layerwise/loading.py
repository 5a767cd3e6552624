"""Trained networks from their run folders."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from layerwise.build import build_network, build_stages
from layerwise.checkpoint import Checkpoints
from layerwise.config import from_yaml
from layerwise.data import DatasetSpec
from layerwise.errors import LayerwiseError
from layerwise.finished import FinishedStage, restore
from layerwise.models.blocknet import BlockNet
from layerwise.resolve import resolve
from layerwise.run_folder import CHECKPOINTS, CONFIG, SPEC


class TrainedNet(BlockNet):
    """A trained `BlockNet` with what is needed to feed it.

    `forward(x)` gives the scores of the last classifier, `forward(x, depth=j)` those at depth j,
    `features(x, j)` the block outputs x_j, `ensemble(x)` the 2^j ensemble.

    Args:
        network: with trained weights.
        spec: of the data set that it was trained on: class names, shape, statistics.
    """

    def __init__(self, network: BlockNet, spec: DatasetSpec) -> None:
        super().__init__(list(network.blocks), {d: network.head(d) for d in network.depths}, network.ensemble_on)
        self.spec = spec

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [B, C, H, W] → float32 [B, C, H, W], as in training."""
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (self.spec.mean, self.spec.std))
        return (pixels.float() / 255 - mean) / std


def load(run_folder: str | Path, device: str | torch.device = "cpu") -> TrainedNet:
    """The network of a run, in eval mode, up to the last finished depth.

    Args:
        run_folder: the folder that a run printed.
        device: where the network goes.

    Raises:
        LayerwiseError: not a run folder, or no depth is finished yet.
    """
    folder = Path(run_folder)
    config = resolve(from_yaml(folder / CONFIG))
    stages = build_stages(config)
    finished, damage = Checkpoints(folder / CHECKPOINTS, warn=print).read_finished(stages)
    if damage is not None:
        raise LayerwiseError(f"{damage}. Run the command of {folder} again: it trains that block anew.")
    while finished and len(finished) < len(stages) and stages[len(finished)].stop == stages[len(finished) - 1].stop:
        finished.pop()  # a pruned block whose head was not fine-tuned yet
    if not finished:
        raise LayerwiseError(f"{folder}: no block is finished yet; run its command to the end.")
    spec = DatasetSpec.from_json((folder / SPEC).read_text())
    network = build_network(config, spec, stages)
    restore(network, stages, [FinishedStage(**tree) for tree in finished])
    trained = stages[len(finished) - 1].stop
    heads = {depth: network.head(depth) for depth in network.depths if depth <= trained}
    network = BlockNet(list(network.blocks[:trained]), heads, network.ensemble_on)
    return TrainedNet(network, spec).to(device).eval()
