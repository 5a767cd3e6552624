"""A network as an ordered list of blocks with auxiliary classifiers beside them.

Depth j counts blocks from 1: x_0 is the image (or a vector), block j maps x_{j−1} to x_j, and the head
at depth j maps x_j to the class scores z_j. A decoder at depth j maps x_j back to x_0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from layerwise.core.types import Shape, Target
from layerwise.models.choices import EnsembleOn
from layerwise.models.ensemble import ensemble
from layerwise.models.readout import Readout, TrainingHead


class Architecture(Protocol):
    """Describes a network: a frozen dataclass, from which networks with weights are built."""

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation, on the CPU.

        Args:
            shape: of x_0, (C, H, W) or (F,).
            depths: depths that get a head; all by default.
            seed: of the initialisation; each block and head draws from one of its own.

        Raises:
            LayerwiseError: the network does not fit the samples.
        """


class BlockNet(nn.Module):
    """Blocks 1 … J and the heads that read them.

    Args:
        blocks: block j at position j−1.
        heads: head by depth; a depth may have none (an end-to-end network has only the last).
        ensemble_on: what the 2^j ensemble averages.
        decoders: decoder by depth, of an autoencoder.
        measured: whether the blocks say in training how far they move the features; then each has a method `move`,
            which gives its outputs and Σ mean(r²) of its residual units.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        heads: Mapping[int, nn.Module],
        ensemble_on: EnsembleOn = EnsembleOn.logits,
        decoders: Mapping[int, nn.Module] | None = None,
        measured: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleDict({str(depth): head for depth, head in sorted(heads.items())})
        self.decoders = nn.ModuleDict({str(depth): decoder for depth, decoder in sorted((decoders or {}).items())})
        self.ensemble_on = ensemble_on
        self.measured = measured

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths that have a head, in ascending order."""
        return tuple(int(name) for name in self.heads)

    def head(self, depth: int) -> nn.Module:
        """The head at a depth; ValueError where there is none."""
        if depth not in self.depths:
            raise ValueError(f"there is no classifier at depth {depth}; there are some at {self.depths}")
        return self.heads[str(depth)]

    def readers(self, target: Target) -> nn.ModuleDict:
        """What predicts a target from block outputs, by depth: the heads, or the decoders."""
        return self.heads if target == "labels" else self.decoders

    def features(self, x: Tensor, j: int) -> Tensor:
        """x_j of scaled inputs x_0: [B, C, H, W] → [B, C_j, H_j, W_j]; ValueError if there is no depth j."""
        if not 0 <= j <= len(self.blocks):
            raise ValueError(f"depth {j} does not exist; depths are 0 (the images) … {len(self.blocks)}")
        for block in self.blocks[:j]:
            x = block(x)
        return x

    def forward(self, x: Tensor, depth: int | None = None) -> Tensor:
        """Class scores [B, c] of normalised images [B, C, H, W], at the last depth or an earlier one."""
        depth = self.depths[-1] if depth is None else depth
        scores: Tensor = self.head(depth)(self.features(x, depth))
        return scores

    def reconstruct(self, x: Tensor, depth: int | None = None) -> Tensor:
        """x_0 as the decoder at the last depth or an earlier one gives it back; ValueError where there is none."""
        depth = len(self.blocks) if depth is None else depth
        if str(depth) not in self.decoders:
            known = ", ".join(self.decoders) or "none: it is not of plan=autoencoder, or its blocks were fine-tuned"
            raise ValueError(f"there is no decoder at depth {depth}; there are decoders at: {known}")
        reconstruction: Tensor = self.decoders[str(depth)](self.features(x, depth))
        return reconstruction

    def ensemble(self, x: Tensor, depth: int | None = None) -> Tensor:
        """The 2^j ensemble [B, c] of all heads up to a depth, by default the last."""
        depth = self.depths[-1] if depth is None else depth
        heads = [d for d in self.depths if d <= depth]
        if not heads:
            raise ValueError(f"there is no classifier up to depth {depth}; there are some at {self.depths}")
        readouts = Segment(self, 0, depth, heads)(x)
        return ensemble({d: r.scores for d, r in zip(heads, readouts, strict=True)}, self.ensemble_on)


class Segment(nn.Module):
    """What one stage trains: blocks start+1 … stop of a network and the heads at some depths.

    It shares the network's modules. Forward and loss of a stage need nothing else, so this is what
    is compiled. A head at depth `start` reads the input itself: with start = stop only heads train.

    Args:
        start, stop: depths that it maps between.
        depths: of the heads, start … stop.
        detached: stop the gradient behind each head, so that blocks learn from their own heads only
            (decoupled greedy learning).
        target: "labels" for the network's heads, "inputs" for its decoders in their place.

    Shapes: x_start [B, C, H, W] → one readout with scores [B, c] per depth in `depths`.
    """

    def __init__(
        self,
        network: BlockNet,
        start: int,
        stop: int,
        depths: Sequence[int],
        detached: bool = False,
        target: Target = "labels",
    ) -> None:
        super().__init__()
        self.start = start
        self.depths = tuple(depths)
        self.detached = detached
        self.measured = network.measured
        self.blocks = network.blocks[start:stop]
        self.heads = nn.ModuleDict({str(depth): network.readers(target)[str(depth)] for depth in depths})

        # plain pairs, since to look modules up by name is a good part of a small network's forward pass
        self._path = [(None, self._head(start))] + [(b, self._head(d)) for d, b in enumerate(self.blocks, start + 1)]

    def train(self, mode: bool = True) -> Segment:
        """Sets the mode of training; a head without a trained parameter stays a constant function."""
        super().train(mode)
        for head in self.heads.values():
            if not any(parameter.requires_grad for parameter in head.parameters()):
                head.eval()
        return self

    def forward(self, x: Tensor) -> list[Readout]:
        return self.walk(x)[0]

    def walk(self, x: Tensor) -> tuple[list[Readout], Tensor]:
        """The readouts, and x_stop."""
        readouts = []
        inputs, costs = x, []
        for block, head in self._path:
            if block is not None and self.measured and self.training:
                x, moved = block.move(x)  # type: ignore[operator]
                costs.append(moved)
            elif block is not None:
                x = block(x)
            if head is not None:
                readout = self._read(head, x, inputs)
                readouts.append(readout._replace(moved=torch.stack(costs).sum()) if costs else readout)
                x, costs = x.detach() if self.detached and block is not None else x, []
        return readouts, x

    def _head(self, depth: int) -> nn.Module | None:
        return self.heads[str(depth)] if depth in self.depths else None

    def _read(self, head: nn.Module, x: Tensor, inputs: Tensor) -> Readout:
        return head.read(x, inputs) if self.training and isinstance(head, TrainingHead) else Readout(head(x))


def trained_parameters(segment: Segment) -> dict[str, list[nn.Parameter]]:
    """Returns the trained parameters of each block and head of a segment, by names such as `block_2` and `head_2`."""
    modules = {f"block_{j}": block for j, block in enumerate(segment.blocks, segment.start + 1)}
    modules |= {f"head_{depth}": head for depth, head in segment.heads.items()}
    found = {name: [p for p in module.parameters() if p.requires_grad] for name, module in modules.items()}
    return {name: parameters for name, parameters in found.items() if parameters}


def freeze(modules: Sequence[nn.Module]) -> None:
    """Makes modules constant functions: no gradient, and batch norms in eval mode."""
    for module in modules:
        module.eval()
        module.requires_grad_(False)


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters, without buffers."""
    return sum(p.numel() for module in modules for p in module.parameters())
