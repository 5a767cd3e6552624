"""Any classifier of timm: end to end as it is, or cut into blocks at its stages or transformer blocks.

timm's `features_only` gives the convolutional body of many networks as a list of modules and says where each resolution
ends (`feature_info`); between two such ends lies a block. All others are cut by `timm_cut`. The blocks get our heads;
behind tokens [B, N, C] a head is made of the network's own layers.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import LayerwiseError, one_line
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import meta_copy
from layerwise.models.heads import CnnHead, FullPrecisionLinear, Head
from layerwise.models.timm_cut import CannotCut, cut, with_exact_scores

Options = Mapping[str, Any]
"""Further arguments of a network of timm, such as `patch_size`."""


@dataclass(frozen=True)
class TimmWhole:
    """Describes a classifier of timm as one block, with its last linear layer as the head."""

    name: str
    options: Options = field(default_factory=dict)

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation; it has one depth, whose head is always there.

        Raises:
            LayerwiseError: no such name, or the network does not take these images.
        """
        body, classifier = self._body(shape, classes, seed=seed)
        head: nn.Module = nn.Identity()  # a network with another kind of classifier stays whole
        if isinstance(classifier, nn.Linear):
            head = FullPrecisionLinear(classifier.in_features, classes, bias=classifier.bias is not None)
            head.load_state_dict(classifier.state_dict())
        with torch.device("meta"):
            _run(copy.deepcopy(body).to("meta"), torch.empty(1, *shape), self.name)
        return BlockNet([body], {1: head})

    def pretrained_blocks(self, shape: Shape, classes: int) -> list[nn.Module]:
        """Returns the body with timm's weights.

        Raises:
            LayerwiseError: timm has none, or they cannot be downloaded.
        """
        with _downloading(self.name):
            return [self._body(shape, classes, pretrained=True)[0]]

    def _body(self, shape: Shape, classes: int, seed: int = 0, pretrained: bool = False) -> tuple[Any, Any]:
        """Returns the network without its classifier, and the classifier; one that is not linear stays there."""
        with seeded(key("timm", seed, self.name)):
            body = _create(self.name, shape, self.options, num_classes=classes, pretrained=pretrained)
        classifier = body.get_classifier()
        if isinstance(classifier, nn.Linear):
            body.reset_classifier(0)
        return body, classifier


@dataclass(frozen=True)
class TimmStages:
    """Describes the body of a timm classifier, cut at its stages, with an auxiliary classifier behind each.

    Attributes:
        head: of stages that return feature maps. Behind tokens `CnnHead` stands for k−1 fresh blocks of the network and
            then what follows its last block: its norm, class token or mean over the tokens, and linear layer.
    """

    name: str
    head: Head
    options: Options = field(default_factory=dict)

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation.

        Raises:
            LayerwiseError: no such name, or the network cannot be cut, or does not take these images.
        """
        with seeded(key("timm", seed, self.name)):
            blocks = _cut(self.name, shape, self.options)
        shapes = _output_shapes(blocks, shape, self.name)
        heads = {}
        for j, output_shape in enumerate(shapes, 1):
            if depths is None or j in depths:
                with seeded(key("head", seed, j)):
                    heads[j] = self._head(output_shape, shapes[-1], shape, classes)
        return BlockNet(blocks, heads)

    def _head(self, shape: Shape, last: Shape, image_shape: Shape, classes: int) -> nn.Module:
        """The head behind outputs of a shape, where the last block has outputs of the shape `last`."""
        if len(shape) == 3:
            return self.head.build(shape, classes)
        if not isinstance(self.head, CnnHead):
            raise LayerwiseError(f"model.head: model.name={self.name} returns tokens, which need model.head=cnn.")
        if self.head.width is not None:
            raise LayerwiseError(
                f"model.head_width={self.head.width}: the heads of model.name={self.name} are as wide as its tokens. "
                "Use model.head_width=null."
            )
        if len(shape) != 2 or shape != last:
            sizes = " and ".join("×".join(map(str, one)) for one in (shape, last))
            raise LayerwiseError(_cannot_cut(self.name, f"its stages return tokens of different shapes ({sizes})"))
        try:  # a network of as many blocks as the head needs
            small = _create(
                self.name, image_shape, {**self.options, "depth": max(1, self.head.k - 1)}, num_classes=classes
            )
        except LayerwiseError:
            small = _create(self.name, image_shape, self.options, num_classes=classes)
        return nn.Sequential(*cut(with_exact_scores(small))[-self.head.k :])

    def pretrained_blocks(self, shape: Shape, classes: int) -> list[nn.Module]:
        """Returns the blocks with timm's weights; raises as `TimmWhole.pretrained_blocks`."""
        with _downloading(self.name):
            return _cut(self.name, shape, self.options, pretrained=True)


@contextmanager
def _downloading(name: str) -> Iterator[None]:
    """Says which weights cannot be had."""
    import timm  # slow to import

    if not timm.is_model_pretrained(name):
        raise LayerwiseError(
            f"model.pretrained=timm: timm has no weights for model.name={name}. timm.list_pretrained() names all."
        )
    try:
        yield
    except OSError as error:  # what is raised without a network, too
        raise LayerwiseError(
            f"model.pretrained=timm: the weights of {name} cannot be downloaded ({str(error).splitlines()[0]})."
        ) from error


def block_count(name: str, options: Options) -> int:
    """J: number of blocks that the network can be cut into.

    Raises:
        LayerwiseError: no such name, or it cannot be cut.
    """
    return _on_meta(name, json.dumps(dict(options)))[0]


@cache
def _on_meta(name: str, options: str) -> tuple[int, bool]:
    """Number of blocks, and whether timm gives their layers as a list."""
    with torch.device("meta"):
        listed = _layers(name, (3, 224, 224), json.loads(options))
        return (len(listed), True) if listed else (len(_cut_by_trace(name, (3, 224, 224), json.loads(options))), False)


def _cut(name: str, image_shape: Shape, options: Options, pretrained: bool = False) -> list[nn.Module]:
    """The blocks of a network, without what follows the last."""
    _, is_list = _on_meta(name, json.dumps(dict(options)))
    blocks = _layers(name, image_shape, options, pretrained) if is_list else None
    return blocks or _cut_by_trace(name, image_shape, options, pretrained)


def _cut_by_trace(name: str, image_shape: Shape, options: Options, pretrained: bool = False) -> list[nn.Module]:
    try:
        return cut(_create(name, image_shape, options, num_classes=0, pretrained=pretrained))[:-1]
    except CannotCut as error:
        raise LayerwiseError(_cannot_cut(name, str(error))) from error


def _layers(name: str, image_shape: Shape, options: Options, pretrained: bool = False) -> list[nn.Module] | None:
    """The blocks of a network whose layers timm gives as a list, or None."""
    from timm.models._features import FeatureListNet  # slow to import, and needed here only

    as_list = {"feature_cfg": {"feature_cls": "list", "flatten_sequential": True}}  # EfficientNet and its like need it
    for more in ({}, as_list):
        try:
            body = _created(name, image_shape, options, features_only=True, pretrained=pretrained, **more)
        except (AssertionError, AttributeError, RuntimeError, TypeError):  # timm's many ways to say no
            continue
        if isinstance(body, FeatureListNet) and body.output_fmt.value == "NCHW":
            return _listed(body)
    return None


def _listed(body: Any) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    layers: list[nn.Module] = []
    for layer, module in body.items():
        layers.append(module)
        if layer in body.return_layers:
            blocks.append(nn.Sequential(*layers))
            layers = []
    return blocks


def _output_shapes(blocks: list[nn.Module], image_shape: Shape, name: str) -> list[Shape]:
    """Shapes of x_1 … x_J, (C, H, W) or (N, C), found without computing anything."""
    shapes = []
    x = torch.empty(1, *image_shape, device="meta")
    with torch.no_grad():
        for block in blocks:
            x = _run(meta_copy(block), x, name)
            shapes.append(tuple(x.shape[1:]))
    return shapes


def _cannot_cut(name: str, reason: str) -> str:
    return (
        f"model.name={name}: this network cannot be cut into blocks: {reason}. "
        "Train it end to end with plan=joint, or take another, such as resnet18."
    )


def _run(module: nn.Module, x: Tensor, name: str) -> Tensor:
    """Outputs of a module on the meta device; a network that does not take the images says so."""
    try:
        y: Tensor = module.eval()(x)
    except (AssertionError, RuntimeError, ValueError) as error:
        size = "×".join(map(str, x.shape[1:]))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LayerwiseError(f"model.name={name}: this network does not take inputs of {size} ({reason}).") from error
    return y


def _create(name: str, image_shape: Shape, options: Options, **more: Any) -> Any:
    """A network of timm; LayerwiseError: it does not exist, or has no such options."""
    try:
        return _created(name, image_shape, options, **more)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        if not options:
            raise
        raise LayerwiseError(
            f"model.options={dict(options)}: timm cannot build model.name={name} with these ({one_line(str(error))})."
        ) from error


def _created(name: str, image_shape: Shape, options: Options, pretrained: bool = False, **more: Any) -> Any:
    import timm  # slow to import

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() names all."
        raise LayerwiseError(f"model.name={name}: timm has no such network. {hint}")
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        more["img_size"] = image_shape[1:]
    return timm.create_model(name, pretrained=pretrained, in_chans=image_shape[0], **options, **more)
