"""The kinds of heads that `model.head` can be, by its value. Imports no torch: the command line reads it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerwise.models.heads import Head


@dataclass(frozen=True)
class HeadKind:
    """A value of `model.head`, and what networks, plans and losses ask of it.

    Attributes:
        line: what it is.
        made_by: class of its description, or a function that gives one, in `layerwise.models`. Of what the network says
            of a place (see `describe_head`), it gets what it has parameters for.
        keys: that not all heads have. A network of this head has those of `model` as fields.
        networks: that it fits, such as those whose layers it copies; None: all that have the key `head`.
        dimensions: of a sample of x_j that it reads: 3 for [C, H, W], 1 for [F].
        can_be_pruned: it can lose inputs.
        norms_vectors: where it has batch norms, one of them reads vectors, so that a batch needs two samples.
        reconstructs: it also gives the images back.
        single_logit: it can end with one logit for two classes.
        regression: it can end with a real value.
    """

    line: str
    made_by: str
    keys: tuple[str, ...] = ()
    networks: tuple[str, ...] | None = None
    dimensions: tuple[int, ...] = (3,)
    can_be_pruned: bool = False
    norms_vectors: bool = False
    reconstructs: bool = False
    single_logit: bool = True
    regression: bool = True


WIDTHS = ("model.head_width", "model.head_widths", "model.final_head_width")
INFOPRO: dict[str, Any] = {
    "keys": ("objective.decoder_weights", "objective.label_weights"),
    "networks": ("resnet_cifar",),
    "reconstructs": True,
    "single_logit": False,
    "regression": False,
}

HEADS: dict[str, HeadKind] = {
    "cnn": HeadKind(
        "The paper's: k-1 convolutions, average, linear layer.",
        "heads:CnnHead",
        (*WIDTHS, "model.pool", "model.pool_overlap"),
        dimensions=(1, 3),
        can_be_pruned=True,
    ),
    "mlp_sr": HeadKind(
        "Pooling, 1x1 convolutions and a perceptron (decoupled greedy learning).", "heads:MlpSrHead", norms_vectors=True
    ),
    "predsim": HeadKind(
        "Linear, beside a convolution with a similarity loss.",
        "heads:PredSimHead",
        ("objective.similarity",),
        single_logit=False,
    ),
    "aux_1c2f": HeadKind(
        "A convolution with stride 2, average, two linear layers: the common head of local learning.",
        "local_heads:OneConvolutionHead",
    ),
    "goodness": HeadKind(
        "Mean squares of groups of channels, without parameters (CwC).",
        "local_heads:GoodnessHead",
        single_logit=False,
        regression=False,
    ),
    "pooled": HeadKind(
        "2x2 max pooling after each of k-1 convolutions, global maximum, linear layer without bias.",
        "heads:PooledHead",
        (*WIDTHS, "model.head_scale"),
        ("simcnn",),
    ),
    "auglocal": HeadKind(
        "Units like some of the layers behind it, average, linear layer (AugLocal).",
        "unit_heads:auglocal_head",
        ("model.head_depth",),
        ("resnet_cifar",),
    ),
    "tail": HeadKind(
        "The last modules of the network and its classifier (SegProp, with plan.head=carried).",
        "unit_heads:tail_head",
        ("model.tail",),
        ("resnet_cifar",),
    ),
    "infopro": HeadKind("aux_1c2f beside a decoder of the images (InfoPro).", "local_heads:InfoProHead", **INFOPRO),
    "infopro_contrast": HeadKind(
        "The same with a contrastive loss in place of the cross-entropy.", "local_heads:InfoProContrastHead", **INFOPRO
    ),
}


def describe_head(model: Any, **place: Any) -> Head:
    """Returns the description of a network's head at a place.

    Args:
        model: the keys of the network, which are offered to the head, too; what is None is left to its default.
        place: `k`; perhaps `activation`, `norm`, `width` of the head's hidden layers, `depth` j and `J`; and where
            heads may copy layers `layers` (width and stride of each), how many lie up to the head (`behind`) and in
            blocks (`inside`), the `most` channels, and `image_shape`.
    """
    make: Callable[..., Head] = resolve_name(f"layerwise.models.{HEADS[model.head].made_by}")
    offered, names = {**vars(model), "width": model.head_width, **place}, inspect.signature(make).parameters
    return make(**{name: offered[name] for name in names if offered.get(name) is not None})


def heads_of(network: str) -> list[str]:
    """The values of `model.head` that a kind of network supports."""
    return [name for name, kind in HEADS.items() if kind.networks is None or network in kind.networks]


def kind_of(model: Any) -> HeadKind:
    """The kind of a network's heads; of networks that have heads of their own it says nothing."""
    return HEADS.get(getattr(model, "head", ""), HeadKind("", ""))
