"""What code of another package must be: the functions and objects that `_target_` may name, with their shapes.

A function is called with keyword arguments: those of the contract that are among its parameters, and the keys that the
user has set beside `_target_`. It may leave out any parameter of the contract that it does not need. docs/extending.md
has an example of each.

Letters in shapes: B batch, C channels, H and W height and width, F features, c classes, J blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    # this module loads no torch: the command line reads the parameters of the contracts
    from pathlib import Path

    from torch import Tensor, nn

    from layerwise.core.types import Shape
    from layerwise.data.own import Part, Samples
    from layerwise.training.objectives import Objective
    from layerwise.training.plan import Stage


class NetworkFunction(Protocol):
    """`model._target_`: gives the blocks of a network, which has a head of `model.head` at each depth."""

    def __call__(self, *, shape: Shape, classes: int, J: int, k: int, **arguments: Any) -> Sequence[nn.Module]:
        """Returns blocks 1 … J. Block j maps x_{j−1} to x_j, each [B, C, H, W] or [B, F].

        A `layerwise.models.block.Block`, a row of layers, may begin as the identity (`plan.warm_start`); another module
        can only be trained. The blocks are initialised under the run's seed.

        Args:
            shape: of x_0, (C, H, W) or (F,).
            J: number of blocks. A default is what `J=null` means.
            k: hidden layers of each greedy problem.
        """


class HeadFunction(Protocol):
    """`model.head._target_`: gives the head at a depth, of any network."""

    def __call__(
        self,
        *,
        shape: Shape,
        classes: int,
        depth: int,
        J: int,
        k: int,
        later: Sequence[nn.Module],
        **arguments: Any,
    ) -> nn.Module:
        """Returns a module from x_j to class scores [B, c]. Each head is initialised under a seed of its own.

        Args:
            shape: of x_j, (C, H, W) or (F,).
            classes: c; 1 for real-valued targets.
            depth: j, from 1.
            later: blocks j+1 … J, to look at: the head must not hold them.
        """


class Loss(Protocol):
    """The loss of one head: what `objective._target_` gives, if that is not an `Objective`."""

    def __call__(self, z: Tensor, targets: Tensor, /) -> Tensor:
        """Returns the mean loss of a batch, a scalar. `torch.nn.MultiMarginLoss()` is one.

        Held-out samples are scored by it, too, without gradients (`layerwise.training.scoring.OwnLoss`).

        Args:
            z: class scores [B, c] float32, or for real-valued targets the values [B].
            targets: labels [B] int64, or real-valued targets [B].
        """


class ObjectiveFunction(Protocol):
    """`objective._target_`: gives what a stage minimises."""

    def __call__(self, *, classes: int, **arguments: Any) -> Loss | Objective:
        """Returns a `Loss`, which is summed over the heads of a stage, or an `Objective` of all its heads.

        An `Objective` (`layerwise.training.objectives`) has an attribute `target`: "labels", or "inputs" to take the
        place of an autoencoder's reconstruction error. Neither has trained parameters of its own. The function is
        called again for each stage, and to score, with the same random numbers.
        """


class DatasetFunction(Protocol):
    """`dataset._target_`: gives training and test samples, which are held in memory."""

    def __call__(self, *, root: Path, **arguments: Any) -> Samples | tuple[Part, Part]:
        """Returns train and test, or `layerwise.data.own.Samples` to say more of them.

        Each is a pair of images uint8 [N, H, W, C] or vectors float [N, F], and labels int64 [N] from 0; or a map-style
        `torch.utils.data.Dataset` of single images (PIL, or uint8 [C, H, W]) or vectors [F] with their labels. The
        function is called once a process and must always give the same samples.

        Args:
            root: `dataset.root`.
        """


class PlanFunction(Protocol):
    """`plan._target_`: gives the stages of a run."""

    def __call__(self, *, J: int, epochs: int, k: int, **arguments: Any) -> Sequence[Stage]:
        """Returns the stages in order; their `index` is counted anew. `layerwise.training.plan` has examples.

        Args:
            J: number of blocks.
            epochs: `plan.epochs`, by default `epochs`.
        """


CONTRACTS: dict[str, type] = {
    "model.head": HeadFunction,
    "model": NetworkFunction,
    "objective": ObjectiveFunction,
    "dataset": DatasetFunction,
    "plan": PlanFunction,
}
"""By the place of `_target_` in the configuration; a place inside of another one comes first."""
