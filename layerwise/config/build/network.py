"""From the configuration to the network of a run, its stages and its costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import nn

from layerwise.config.networks.base import DescribedNetwork
from layerwise.config.networks.own import ResolvedOwn
from layerwise.config.networks.simcnn import ResolvedSimCnn
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.errors import LayerwiseError
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Shape, Target
from layerwise.data.dataset import DatasetSpec
from layerwise.models.blocknet import BlockNet
from layerwise.models.costs import BlockCost, block_costs
from layerwise.models.heads import SingleLogit, linear_decoder
from layerwise.models.own import own_blocks, own_heads
from layerwise.training.beginnings import check_warm_starts
from layerwise.training.plan import Agenda, Stage, behind
from layerwise.training.pruning import check_pruning, pruned_copy


def build_agenda(config: ResolvedConfig) -> Agenda:
    """The plan's stages, and how they depend on what the first of them give."""
    plan = config.plan
    return Agenda(behind(plan.stages(config), plan.frozen_blocks), plan.finetuning, plan.patience)


def build_network(config: ResolvedConfig, spec: DatasetSpec, stages: Sequence[Stage]) -> BlockNet:
    """The network at its initialisation, on the CPU, with a head or decoder at each depth where a stage needs one."""
    depths: dict[Target, set[int]] = {"labels": set(), "inputs": set()}
    for stage in stages:
        depths[stage.target] |= set(stage.depths)
    single = config.objective.single_logit
    built = _build_blocks_and_heads(config, spec.shape, 1 if single else spec.outputs, depths["labels"])
    heads = {depth: SingleLogit(built.head(depth)) if single else built.head(depth) for depth in built.depths}
    decoders = _build_decoders(built, spec, depths["inputs"], config.seed)
    blocks, measured = list(built.blocks), config.objective.transport is not None
    if measured and not all(hasattr(block, "move") for block in blocks):
        raise LayerwiseError(
            f"objective.transport={config.objective.transport}: model={config.model.kind} has no residual units to "
            "measure. Use model=resnet_cifar."
        )
    return BlockNet(blocks, heads, config.ensemble.on, decoders, measured)


def _build_blocks_and_heads(config: ResolvedConfig, shape: Shape, outputs: int, depths: Collection[int]) -> BlockNet:
    """The network without decoders. Blocks and heads of another package are called with their contracts' values."""
    J, k, model, make_head = config.J, config.k, config.model, config.function("model.head")
    make_blocks = config.function("model")
    if make_blocks is not None:
        blocks = own_blocks(
            lambda: make_blocks(shape=shape, classes=outputs, J=J, k=k), J, config.seed, make_blocks.key
        )
    else:
        assert isinstance(model, DescribedNetwork)
        needed = () if make_head is not None else depths
        built = model.architecture(k, J, config.plan.whole).build(shape, outputs, depths=needed, seed=config.seed)
        if make_head is None:
            return built
        blocks = list(built.blocks)

    def build_head(shape: Shape, depth: int, later: list[nn.Module]) -> nn.Module:
        if make_head is None:
            assert isinstance(model, ResolvedOwn)
            return model.build_head(shape, outputs, k, depth)
        head: nn.Module = make_head(shape=shape, classes=outputs, depth=depth, J=J, k=k, later=later)
        return head

    names = (
        f"model={model.kind}" if make_blocks is None else make_blocks.key,
        "model.head" if make_head is None else make_head.key,
    )
    return BlockNet(blocks, own_heads(blocks, shape, outputs, depths, config.seed, build_head, names))


def check_network(network: BlockNet, stages: Sequence[Stage]) -> None:
    """Refuses a plan that the blocks cannot follow: what begins as the identity, or loses filters.

    Raises:
        LayerwiseError: names the key, the block, and why.
    """
    for stage in stages:
        head = network.readers(stage.target)[str(stage.stop)]
        if stage.start == stage.stop and not any(True for _ in head.parameters()):
            raise LayerwiseError(f"depth {stage.stop}: a stage trains its head alone, which has no parameters.")
        heads = [network.readers(stage.target)[str(depth)] for depth in stage.depths]
        if not any(True for part in (*network.blocks[stage.start : stage.stop], *heads) for _ in part.parameters()):
            raise LayerwiseError(f"{stage.title}: neither blocks nor heads have parameters, so nothing can be trained.")
    check_warm_starts(network, stages)
    check_pruning(network, stages)


def build_last_head(config: ResolvedConfig, network: BlockNet, spec: DatasetSpec, width: int) -> nn.Module:
    """A fresh last head of a width, on the CPU, for the blocks of a network as they are."""
    assert isinstance(config.model, ResolvedSimCnn)
    model = replace(config.model, head_width=None, head_widths=[width] * config.J, final_head_width=None)
    head = model.architecture(config.k, config.J, config.plan.whole).heads[-1]
    shape = block_costs(network, spec.shape, torch.float32)[-1].output_shape
    single = config.objective.single_logit
    with seeded(key("head", config.seed, config.J, width)):
        built = head.build(shape, 1 if single else spec.outputs)
    return SingleLogit(built) if single else built


def _build_decoders(network: BlockNet, spec: DatasetSpec, depths: Collection[int], seed: int) -> dict[int, nn.Module]:
    if not depths:
        return {}
    shapes = [cost.output_shape for cost in block_costs(network, spec.shape, torch.float32)]
    decoders: dict[int, nn.Module] = {}
    for depth in depths:
        with seeded(key("decoder", seed, depth)):
            decoders[depth] = linear_decoder(shapes[depth - 1], spec.shape)
    return decoders


def build_costs(config: ResolvedConfig, network: BlockNet, spec: DatasetSpec, dtype: torch.dtype) -> list[BlockCost]:
    """What the network costs in the end (pruned, if it will be)."""
    widths = config.plan.pruned_widths(config)
    final = network if widths is None else pruned_copy(network, widths)
    if config.plan.last_head_width is not None:
        final.heads[str(config.J)] = build_last_head(config, final, spec, config.plan.last_head_width)
    return block_costs(final, spec.shape, dtype)
