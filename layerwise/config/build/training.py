"""From the configuration to how a stage is trained: processes, optimiser, objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from layerwise.config.build.data import build_batch_plan
from layerwise.config.groups.training import OptimizerKind, Parallel, ScheduleName
from layerwise.config.networks.base import given
from layerwise.config.outside import Outside
from layerwise.config.resolved import ResolvedConfig
from layerwise.core import distributed
from layerwise.core.distributed import ranks
from layerwise.core.errors import LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.core.precision import Precision
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Target
from layerwise.data.dataset import Dataset, DatasetSpec
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.models.costs import block_costs
from layerwise.models.local_heads import InfoProModule
from layerwise.training.block_parallel import BlockParallel, cuts
from layerwise.training.contracts import Loss
from layerwise.training.methods import InfoPro, Transported, halved_taus, infopro_weights
from layerwise.training.muon import MuonSGD, with_muon
from layerwise.training.objectives import LocalLoss, Objective, Penalised, Reconstruction, ValueLoss, check_loss
from layerwise.training.optim import (
    ADAM_EPSILON,
    Constant,
    Cosine,
    OneCycle,
    Schedule,
    StepDecay,
    adam,
    adamw,
    can_be_captured,
    sgd,
    with_shift_lr,
    without_norm_decay,
)
from layerwise.training.plan import Stage, group_ends
from layerwise.training.recipe import Recipe
from layerwise.training.scoring import ClassScoring, OwnLoss, Scoring, ValueScoring
from layerwise.training.step import CudaGraph, DeviceGraph
from layerwise.training.team import ALONE, DataParallel, Team
from layerwise.training.timm_optim import timm_optimizer


def build_team(config: ResolvedConfig, stage: Stage, network: BlockNet, data: Dataset, stop: StopRequest) -> Team:
    """How the processes share a stage.

    Args:
        stop: is told how often the processes may be asked whether to stop.
    """
    if not distributed.joined():
        return ALONE
    if config.distributed.parallel is Parallel.data:
        return DataParallel()
    n = ranks()
    stop.least_steps = 4 * n  # they work on batches that lie up to n apart
    costs = [cost.block_macs + cost.head_macs for cost in block_costs(network, data.spec.shape, torch.float32)]
    parts = [
        Segment(network, start, stop_, [depth for depth in stage.depths if start < depth <= stop_], stage.detached)
        for start, stop_ in cuts(costs, stage.depths, n)
    ]
    return BlockParallel(parts, data, build_batch_plan(config, data))


def build_graph(
    config: ResolvedConfig, device: torch.device, precision: Precision, optimizer: torch.optim.Optimizer
) -> DeviceGraph | None:
    """Returns a CUDA graph for whole training steps: with `compile=true` on one GPU, if no step waits for it.

    The loss scaling of fp16 does ask it (whether gradients overflowed), as do some of timm's optimisers.
    """
    recorded = config.compile and device.type == "cuda" and not distributed.joined()
    return CudaGraph(device) if recorded and precision.dtype != torch.float16 and can_be_captured(optimizer) else None


def build_schedule(config: ResolvedConfig) -> Schedule:
    """`optimizer.schedule`."""
    optimizer = config.optimizer
    schedules: dict[ScheduleName, Schedule] = {
        ScheduleName.step: StepDecay(optimizer.decay_every, optimizer.decay, optimizer.decay_at or ()),
        ScheduleName.cosine: Cosine(),
        ScheduleName.onecycle: OneCycle(optimizer.warmup, optimizer.final, optimizer.start),
        ScheduleName.constant: Constant(),
    }
    return schedules[optimizer.schedule]


def build_optimizer(config: ResolvedConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over a stage's parameters."""
    optimizer = config.optimizer
    lr, momentum, weight_decay = optimizer.lr, optimizer.momentum, optimizer.weight_decay
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    trained = [{"params": parameters}] if optimizer.norm_decay else without_norm_decay(parameters)
    if optimizer.shift_lr != 1:
        trained = with_shift_lr(trained, module, optimizer.shift_lr, weight_decay)
    if optimizer.kind is OptimizerKind.timm:
        return timm_optimizer(optimizer.name, trained, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if optimizer.kind is OptimizerKind.sgd:
        muon_lr, make = optimizer.muon_lr, sgd if optimizer.muon_lr is None else MuonSGD
        groups = trained if muon_lr is None else with_muon(trained, muon_lr / lr)
        return make(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=optimizer.nesterov)
    epsilon = given(optimizer.epsilon, ADAM_EPSILON)
    return (adam if optimizer.kind is OptimizerKind.adam else adamw)(
        trained, lr=lr, weight_decay=weight_decay, epsilon=epsilon
    )


def build_objective(config: ResolvedConfig, target: Target, module: Segment, data: Dataset | None = None) -> Objective:
    """What a stage's heads minimise.

    Args:
        module: blocks and heads, whose weights the penalties are on: matrices and kernels, not biases and norms.
        data: with the weights of its classes, or the scale of its targets; None for equal weights.
    """
    chosen, own = config.objective, _build_own(config, module, data)
    loss = None if isinstance(own, Objective) else own
    weights_of_classes = None if data is None else data.class_weights
    weights = None if chosen.head_weights is None or not len(module.blocks) else head_weights(config, module.depths)
    plain = LocalLoss(chosen.label_smoothing, chosen.similarity, chosen.loss, weights_of_classes, loss, weights)
    objective: Objective = plain
    if isinstance(own, Objective) and own.target == target:
        objective = own
    elif target == "inputs":
        objective = Reconstruction(chosen.reconstruction)
    elif any(isinstance(part, InfoProModule) for part in module.modules()):
        objective = _infopro(config, plain, module, data)
    elif data is not None and data.spec.target:
        objective = ValueLoss(chosen.loss, data.spec.target_scale[1], loss, weights)
    if chosen.transport is not None:
        objective = Transported(objective, halved_taus(chosen.transport, module.depths, config.J))
    if chosen.l1 or chosen.l2:
        penalised = [parameter for parameter in module.parameters() if parameter.dim() > 1]
        return Penalised(objective, penalised, chosen.l1, chosen.l2)
    return objective


def _infopro(config: ResolvedConfig, plain: LocalLoss, module: Segment, data: Dataset | None) -> InfoPro:
    chosen, device = config.objective, next(module.parameters()).device
    mean, std = ((0.0,), (1.0,)) if data is None else (data.spec.mean, data.spec.std)
    return InfoPro(
        replace(plain, weights=None),
        infopro_weights(chosen.decoder_weights, module.depths, config.J),
        infopro_weights(chosen.label_weights, module.depths, config.J),
        scale=torch.tensor(std, device=device),
        shift=torch.tensor(mean, device=device),
    )


def head_weights(config: ResolvedConfig, depths: Sequence[int]) -> list[float]:
    """The weights of the losses of the heads at some depths."""
    chosen = config.objective.head_weights
    ends = group_ends(config.J, config.plan.blocks_per_stage)
    weights = chosen if isinstance(chosen, list) else [chosen] * (len(ends) - 1) + [1.0]
    by_depth = dict(zip(ends, weights, strict=True))
    return [by_depth[depth] for depth in depths]


def _build_own(config: ResolvedConfig, module: nn.Module, data: Dataset | None) -> Loss | Objective | None:
    """The loss or objective of another package, tried once if there are data."""
    function = config.function("objective")
    if function is None:
        return None
    device = next(module.parameters()).device
    own = _call_own(function, config.seed, device, None if data is None else data.spec)
    if data is not None and not isinstance(own, Objective):
        check_loss(own, None if data.spec.target else data.spec.outputs, device, function.key)
    return own


def _call_own(function: Outside, seed: int, device: torch.device, spec: DatasetSpec | None) -> Loss | Objective:
    """What a function of another package gives, on a device; random numbers that it draws are always the same."""
    with seeded(key("objective", seed)):
        own: Loss | Objective = function(**({} if spec is None else {"classes": spec.outputs}))
    if not callable(own):
        raise LayerwiseError(f"{function.key}: must return a loss that can be called, not {type(own).__name__}.")
    if isinstance(own, nn.Module):
        if any(parameter.requires_grad for parameter in own.parameters()):
            raise LayerwiseError(
                f"{function.key}: has trained parameters, which no optimiser updates. Put them in a head."
            )
        own.to(device)
    return own


def build_scoring(config: ResolvedConfig, spec: DatasetSpec, device: torch.device | None = None) -> Scoring:
    """How held-out samples are scored: by the loss that was trained, also one of another package.

    An `Objective` of another package has no loss of one head; then it is that of `objective.loss`.

    Args:
        device: where a loss of another package is computed; None: only measures are wanted, and it is not imported.
    """
    function, loss = config.function("objective"), None
    if function is not None and device is not None:
        own = _call_own(function, config.seed, device, spec)
        if not isinstance(own, Objective):
            loss = OwnLoss(own.eval() if isinstance(own, nn.Module) else own, function.key, config.batch_size, device)
    if spec.target:
        return ValueScoring(config.objective.loss, spec.target_scale[1], loss)
    return ClassScoring(config.objective.loss, spec.classes, loss)


def build_recipe(config: ResolvedConfig, stage: Stage, data: Dataset) -> Recipe:
    """How a stage is optimised."""
    return Recipe(
        epochs=stage.epochs,
        samples=data.having(stage.target),
        batch_size=config.batch_size,
        lr=config.optimizer.lr if stage.lr is None else stage.lr,
        schedule=build_schedule(config),
        restart_momentum=config.optimizer.restart_momentum,
        clip_norm=config.optimizer.clip_norm,
        seed=config.seed,
        average=config.optimizer.average,
        gradients=config.evaluation.gradients,
        accumulate=config.accumulate,
    )
