"""The losses by their names. Imports no torch: the command line reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossKind:
    """A value of `objective.loss`, and if it reads no labels of `objective.reconstruction`.

    Attributes:
        line: what it is.
        named: dotted name of its function of scores, what is wanted, and `reduction`; with labels also
            `label_smoothing`.
        wanted: what it compares with: labels; values in [0, 1]; or any values. Of classes values are a one-hot vector;
            only the last fits real-valued targets.
        keys: of `objective` that not all losses have.
        probabilities: from class scores [N, c] to what can be compared between samples. Cross-entropy leaves open what
            is added to all scores of a sample, so only their softmax can; an error is of the scores as they are.
    """

    line: str
    named: str
    wanted: Literal["labels", "unit", "values"] = "values"
    keys: tuple[str, ...] = ()
    probabilities: Callable[[Tensor], Tensor] = lambda z: z

    @cached_property
    def function(self) -> Callable[..., Tensor]:
        """The mean loss, or with `reduction="none"` that of each element."""
        found: Callable[..., Tensor] = resolve_name(self.named)
        return found


F = "torch.nn.functional."
CLASSES = ("label_smoothing", "single_logit")
LOSSES: dict[str, LossKind] = {
    "cross_entropy": LossKind(
        "Of the softmax of the class scores: the paper's.",
        F + "cross_entropy",
        "labels",
        CLASSES,
        lambda z: z.softmax(1),
    ),
    "binary_cross_entropy": LossKind(
        "A sigmoid for each class against the rest.",
        F + "binary_cross_entropy_with_logits",
        "unit",
        CLASSES,
        lambda z: z.sigmoid(),
    ),
    "squared_error": LossKind("Of the scores and a one-hot vector, or of real-valued targets.", F + "mse_loss"),
    "absolute_error": LossKind("Likewise, the absolute value.", F + "l1_loss"),
}


def losses_for(wanted: str) -> str:
    """The names of the losses that compare with such values."""
    return " or ".join(name for name, loss in LOSSES.items() if loss.wanted == wanted)
