"""Trained networks from their run folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from layerwise.config.build import build_agenda, build_last_head, build_network
from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec, scaled_rows
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.runs.checkpoints import Checkpoints, read_pretrained, rows_of
from layerwise.runs.depth_search import run_config
from layerwise.runs.finished import FinishedStage, begin_with, lost_lines, restore, valid_depths
from layerwise.runs.origin import Origin, origin_of
from layerwise.runs.run_files import AGAIN, CHECKPOINTS, PRETRAINED, SPEC, read_spec


class TrainedNet(BlockNet):
    """A trained `BlockNet` with what is needed to feed it.

    `forward(x)` gives the scores of the last classifier, `forward(x, depth=j)` those at depth j,
    `features(x, j)` the block outputs x_j, `ensemble(x)` the 2^j ensemble, `reconstruct(x)` of an
    autoencoder the input as its decoder gives it back. Real-valued targets are scaled: `in_units` gives them back.

    Args:
        spec: of the data set that it was trained on: class names, shape, statistics.
        mirror: its results are means over an image and its mirror image; so are `class_scores`, while the other methods
            take the images as they are.
    """

    def __init__(self, network: BlockNet, spec: DatasetSpec, mirror: bool = False) -> None:
        heads, decoders = ({int(d): m for d, m in network.readers(t).items()} for t in ("labels", "inputs"))
        super().__init__(list(network.blocks), heads, network.ensemble_on, decoders)
        self.spec, self.mirror = spec, mirror
        dtype = torch.float32 if spec.has_images else torch.float64  # as `layerwise.data` scales them
        shape = (-1, 1, 1) if spec.has_images else (-1,)
        self.mean, self.std = (
            nn.Buffer(torch.tensor(v, dtype=dtype).view(shape), persistent=False) for v in (spec.mean, spec.std)
        )

    def normalise(self, values: Tensor) -> Tensor:
        """Images uint8 [B, C, H, W] or vectors [B, F] → float32 of the same shape, filled and scaled as in training."""
        if not self.spec.has_images:
            return scaled_rows(values, self.spec)
        return (values.float() / 255 - self.mean) / self.std

    def in_units(self, z: Tensor) -> Tensor:
        """Outputs [B, c] as they are of classes, and of real-valued targets float64 in the unit of the table."""
        if not self.spec.target:
            return z
        mean, deviation = self.spec.target_scale
        return z.double() * deviation + mean

    def class_scores(self, x: Tensor, depths: Sequence[int]) -> dict[int, Tensor]:
        """z_j [B, c] of scaled inputs x_0 at some depths, of which the last comes last; see `mirror`."""
        segment = Segment(self, 0, depths[-1], depths)
        scores = {depth: readout.scores for depth, readout in zip(depths, segment(x), strict=True)}
        if not self.mirror:
            return scores
        mirrored = segment(x.flip(3))  # [B, C, H, W]
        return {depth: (scores[depth] + readout.scores) / 2 for depth, readout in zip(depths, mirrored, strict=True)}


def load(run_folder: str | Path, device: str | torch.device = "cpu", trust: bool = False) -> TrainedNet:
    """The network of a run, in eval mode, up to the last finished depth, or that which a finished run chose.

    Args:
        run_folder: the folder that a run printed.
        device: where the network goes.
        trust: whether code of other packages that the run's configuration names (`_target_`) may be imported: whoever
            wrote the folder decides what it does.

    Raises:
        LayerwiseError: not a run folder, no depth is finished yet, or it needs such code and is not trusted.
    """
    folder = Path(run_folder)
    config = run_config(folder, trust)
    agenda = build_agenda(config)
    trees, damage = Checkpoints(folder / CHECKPOINTS, print, origin_of(folder)).read_finished(agenda)
    if damage is not None:
        raise LayerwiseError(f"{damage}. Run the command of {folder} again: it trains that block anew.")
    rows = rows_of(trees)
    stages, complete = agenda.stages(rows)[: len(trees)], len(trees) == len(agenda.stages(rows))
    while stages and (stages[-1].prune_to is not None or not valid_depths(stages, "labels")):
        stages.pop()  # a pruned block or a fine-tuned encoder whose classifier was not fitted yet
    if not stages:
        raise LayerwiseError(f"{folder}: no block is finished yet; run its command to the end.")
    spec = read_spec(folder / SPEC)
    if spec is None:
        raise LayerwiseError(f"{folder / SPEC}: there is no such file. {AGAIN}")
    network = build_network(config, spec, agenda.stages())
    if config.model.pretrained is not None:
        weights = read_pretrained(folder / CHECKPOINTS)
        if weights is None:
            raise LayerwiseError(f"{folder / CHECKPOINTS / PRETRAINED}: there is no such file. {AGAIN}")
        begin_with(network, weights)
    last_head = partial(build_last_head, config, network, spec)
    restore(network, stages, [FinishedStage(**tree) for tree in trees[: len(stages)]], last_head)
    depths = valid_depths(stages, "labels")
    deepest = agenda.depth(rows) if complete else depths[-1]
    heads = {depth: network.head(depth) for depth in depths if depth <= deepest}
    decoders = {d: network.readers("inputs")[str(d)] for d in valid_depths(stages, "inputs") if d <= deepest}
    network = BlockNet(list(network.blocks[:deepest]), heads, network.ensemble_on, decoders)
    return TrainedNet(network, spec, config.evaluation.mirror).to(device).eval()


def all_blocks_readable(folder: Path, origin: Origin) -> bool:
    """Whether all checkpoints of a finished run are intact; if not, the run trains the damaged part again."""
    try:
        config = run_config(folder, trust=True)  # that of the command
        agenda = build_agenda(config)
        if config.model.pretrained is not None and read_pretrained(folder / CHECKPOINTS) is None:
            return False
    except LayerwiseError:  # its search, or what it began with, is damaged
        return False
    trees, _ = Checkpoints(folder / CHECKPOINTS, print, origin).read_finished(agenda)
    stages = agenda.stages(rows_of(trees))
    if len(trees) < len(stages):
        return False
    if lost := lost_lines(folder, origin, stages, [FinishedStage(**tree) for tree in trees]):
        print(f"warning: {lost}", file=sys.stderr)
    return True
