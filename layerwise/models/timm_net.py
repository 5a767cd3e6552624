"""Any classifier of timm: end to end as it is, or cut into blocks at its stages.

timm's `features_only` gives the convolutional body as a list of modules and says where each
resolution ends (`feature_info`); between two such ends lies a block. The blocks get our heads.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape
from layerwise.models.blocknet import BlockNet
from layerwise.models.heads import FullPrecisionLinear, Head


@dataclass(frozen=True)
class TimmWhole:
    """Describes a classifier of timm as one block, with its last linear layer as the head."""

    name: str

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
            body = _create(self.name, shape, num_classes=classes, pretrained=pretrained)
        classifier = body.get_classifier()
        if isinstance(classifier, nn.Linear):
            body.reset_classifier(0)
        return body, classifier


@dataclass(frozen=True)
class TimmStages:
    """Describes the body of a timm classifier, cut at its stages, with an auxiliary classifier behind each."""

    name: str
    head: Head

    def build(self, shape: Shape, classes: int, *, depths: Collection[int] | None = None, seed: int = 0) -> BlockNet:
        """Returns the network at its initialisation.

        Raises:
            LayerwiseError: no such name, or the network cannot be cut, or does not take these images.
        """
        with seeded(key("timm", seed, self.name)):
            blocks, _ = _cut(self.name, shape)
        heads = {}
        for j, output_shape in enumerate(_output_shapes(self.name, shape), 1):
            if depths is None or j in depths:
                with seeded(key("head", seed, j)):
                    heads[j] = self.head.build(output_shape, classes)
        return BlockNet(blocks, heads)

    def pretrained_blocks(self, shape: Shape, classes: int) -> list[nn.Module]:
        """Returns the blocks with timm's weights; raises as `TimmWhole.pretrained_blocks`."""
        with _downloading(self.name):
            return _cut(self.name, shape, pretrained=True)[0]


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


@cache
def block_count(name: str) -> int:
    """J: number of stages that the network can be cut into.

    Raises:
        LayerwiseError: no such name, or it cannot be cut.
    """
    with torch.device("meta"):
        return len(_cut(name, (3, 224, 224))[0])


def _cut(name: str, image_shape: Shape, pretrained: bool = False) -> tuple[list[nn.Module], list[int]]:
    """Blocks and the channels that each gives."""
    from timm.models._features import FeatureListNet  # slow to import, and needed here only

    body: Any = None
    as_list = {"feature_cfg": {"feature_cls": "list", "flatten_sequential": True}}  # EfficientNet and its like need it
    for more in ({}, as_list):
        try:
            body = _create(name, image_shape, features_only=True, pretrained=pretrained, **more)
        except (AssertionError, AttributeError, RuntimeError, TypeError):  # timm's many ways to say no
            continue
        if isinstance(body, FeatureListNet):
            break
    if not isinstance(body, FeatureListNet):
        raise LayerwiseError(_cannot_cut(name, "timm does not give its stages as a list of modules"))
    blocks: list[nn.Module] = []
    layers: list[nn.Module] = []
    for layer, module in body.items():
        layers.append(module)
        if layer in body.return_layers:
            blocks.append(nn.Sequential(*layers))
            layers = []
    return blocks, list(body.feature_info.channels())


def _output_shapes(name: str, image_shape: Shape) -> list[tuple[int, int, int]]:
    """(C, H, W) of x_1 … x_J, found without computing anything."""
    shapes = []
    with torch.device("meta"), torch.no_grad():
        blocks, channels = _cut(name, image_shape)
        x = torch.empty(1, *image_shape)
        for j, (block, width) in enumerate(zip(blocks, channels, strict=True), 1):
            x = _run(block, x, name)
            if x.dim() != 4 or x.shape[1] != width:
                raise LayerwiseError(_cannot_cut(name, f"stage {j} gives {list(x.shape)} and not [B, {width}, H, W]"))
            shapes.append((x.shape[1], x.shape[2], x.shape[3]))
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


def _create(name: str, image_shape: Shape, pretrained: bool = False, **options: Any) -> Any:
    import timm  # slow to import

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() names all."
        raise LayerwiseError(f"model.name={name}: timm has no such network. {hint}")
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_shape[1:]
    return timm.create_model(name, pretrained=pretrained, in_chans=image_shape[0], **options)
