"""From `model=…` to a network: which function builds it, and what depends on its kind."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields

import torch

from layerwise.config.resolved import ResolvedConfig
from layerwise.config.schema import ModelConfig, ModelKind, Plan, filled
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.data.dataset import DatasetSpec
from layerwise.models import timm_net
from layerwise.models.blocknet import BlockNet
from layerwise.models.choices import HeadKind, Initialisation
from layerwise.models.costs import block_costs
from layerwise.models.decoders import linear_decoder
from layerwise.models.heads import QUADRANTS
from layerwise.models.mlp import mlp
from layerwise.models.simcnn import simcnn
from layerwise.models.vgg import ALEXNET_LAYERS, VGG_LAYERS, block_count, vgg


def fixed_depth(model: ModelConfig, plan: Plan) -> int | None:
    """J where the network decides it; None where it can be chosen.

    Raises:
        LayerwiseError: there is no such network, or it cannot be cut into blocks.
    """
    if model.kind in (ModelKind.simcnn, ModelKind.mlp):
        return None if model.widths is None else len(model.widths)
    if model.kind is ModelKind.timm:
        return 1 if plan is Plan.joint else timm_net.block_count(filled(model.name))
    return block_count(_layers(model))


def greedy_depth(model: ModelConfig) -> int:
    """Blocks that the greedy plan would train; 1 for a timm network that cannot be cut."""
    try:
        return fixed_depth(model, Plan.greedy) or 1
    except LayerwiseError:
        return 1


def check_used(model: ModelConfig, k: int) -> None:
    """Refuses keys that this network does not have: an experiment file may set them for another one.

    Raises:
        LayerwiseError: names the key and the network.
    """
    used = USED_KEYS[model.kind]
    what = f"model={model.kind.value}"
    if "head_width" in used and model.head is not HeadKind.cnn:
        used, what = used - CNN_HEAD_KEYS, f"model.head={model.head.value}"
    elif k == 1:
        unused = {"final_head_width"} | ({"head_width"} if model.kind is ModelKind.mlp else set())
        used, what = used - unused, "k=1, whose heads are linear,"
    defaults = ModelConfig()
    for entry in fields(model):
        name = entry.name
        if name not in used and getattr(model, name) != getattr(defaults, name):
            raise LayerwiseError(f"model.{name}={getattr(model, name)}: {what} has no such option. Leave it out.")
    if model.initialisation not in (known := INITIALISATIONS.get(model.kind, (Initialisation.pytorch,))):
        raise LayerwiseError(
            f"model.initialisation={model.initialisation.value}: {what} has no such one. "
            f"Use {', '.join(one.value for one in known)}."
        )


MLP_KEYS = {"widths", "activation", "initialisation"}
CNN_HEAD_KEYS = {"head_width", "head_widths", "final_head_width", "pool"}
INITIALISATIONS = {
    ModelKind.simcnn: (Initialisation.pytorch, Initialisation.he, Initialisation.dirac),
    ModelKind.mlp: (Initialisation.pytorch, Initialisation.he_uniform),
}
"""Those that a kind of network has; the others have PyTorch's."""
USED_KEYS: dict[ModelKind, set[str]] = {
    ModelKind.simcnn: {entry.name for entry in fields(ModelConfig)} - {"depth"},
    ModelKind.vgg: {"kind", "name", "depth", "width"},
    ModelKind.alexnet: {"kind", "name", "width"},
    ModelKind.timm: {"kind", "name", "head", "head_width"},
    ModelKind.mlp: {"kind", "name", "width", "head_width", "batch_norm", *MLP_KEYS},
}
"""The keys that each kind of network has; all have a name once they are resolved."""


def label(model: ModelConfig) -> str:
    """The network's name in tables and folder names: `simcnn`, `vgg11`, `resnet18`."""
    if model.kind is ModelKind.timm:
        return filled(model.name)
    return f"vgg{model.depth}" if model.kind is ModelKind.vgg else model.kind.value


def build_network(
    config: ResolvedConfig, spec: DatasetSpec, depths: Collection[int], decoder_depths: Collection[int] = ()
) -> BlockNet:
    """The network of a resolved configuration at its initialisation, on the CPU.

    Args:
        config: resolved.
        spec: of the samples.
        depths: that get a head.
        decoder_depths: that get a decoder.

    Raises:
        LayerwiseError: the network does not fit the samples.
    """
    network = _build_classifier(config, spec, depths)
    if not decoder_depths:
        return network
    shapes = [cost.output_shape for cost in block_costs(network, spec.shape, torch.float32)]
    decoders = {}
    for depth in decoder_depths:
        with seeded(key("decoder", config.seed, depth)):
            decoders[depth] = linear_decoder(shapes[depth - 1], spec.shape)
    return BlockNet(list(network.blocks), {d: network.head(d) for d in depths}, network.ensemble_on, decoders)


def check_samples(model: ModelConfig, spec: DatasetSpec) -> None:
    """Refuses a network of convolutions for vectors.

    Raises:
        LayerwiseError: names the network and the data set.
    """
    if model.kind is not ModelKind.mlp and not spec.has_images:
        raise LayerwiseError(
            f"model={model.kind.value}: is for images; a sample of dataset={spec.name} is a vector of "
            f"{spec.shape[0]} number(s). Use model=mlp."
        )


def _build_classifier(config: ResolvedConfig, spec: DatasetSpec, depths: Collection[int]) -> BlockNet:
    model, classes, on = config.model, len(spec.classes), config.ensemble.on
    if model.kind is ModelKind.mlp:
        return mlp(
            spec.shape,
            classes,
            k=config.k,
            widths=filled(model.widths),
            head_width=model.head_width,
            activation=model.activation,
            batch_norm=filled(model.batch_norm),
            initialisation=model.initialisation,
            ensemble_on=on,
            depths=depths,
            seed=config.seed,
        )
    if model.kind is ModelKind.timm:
        if config.plan.name is Plan.joint:
            return timm_net.end_to_end(filled(model.name), spec.shape, classes, seed=config.seed)
        return timm_net.layerwise(
            filled(model.name),
            spec.shape,
            classes,
            k=config.k,
            head=model.head,
            head_width=model.head_width,
            ensemble_on=on,
            depths=depths,
            seed=config.seed,
        )
    if model.kind is not ModelKind.simcnn:
        return vgg(
            spec.shape,
            classes,
            layers=_layers(model),
            k=config.k,
            width=filled(model.width),
            ensemble_on=on,
            depths=depths,
            seed=config.seed,
        )
    width: int | list[int] = model.widths or filled(model.width)
    return simcnn(
        spec.shape,
        classes,
        k=config.k,
        J=config.J,
        width=width,
        head_width=model.head_widths or model.head_width or width,
        downsample=filled(model.downsample),
        downsampling=filled(model.downsampling),
        batch_norm=filled(model.batch_norm),
        bias=model.bias,
        input_downsample=filled(model.input_downsample),
        whiten_input=model.whiten_input,
        head=model.head,
        final_head_width=model.final_head_width,
        pool=model.pool or QUADRANTS,
        activation=model.activation,
        initialisation=model.initialisation,
        ensemble_on=on,
        depths=depths,
        seed=config.seed,
    )


def _layers(model: ModelConfig) -> list[str | int]:
    if model.kind is ModelKind.alexnet:
        return ALEXNET_LAYERS
    if model.depth not in VGG_LAYERS:
        raise LayerwiseError(
            f"model.depth={model.depth}: there is no such VGG. Known: {', '.join(map(str, VGG_LAYERS))}."
        )
    return VGG_LAYERS[model.depth]
