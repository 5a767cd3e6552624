"""Batch norms that see the batches of all processes, so that their number changes no result.

On GPUs these are PyTorch's own (with timm's care for norms that hold an activation). PyTorch's work on
GPUs only, so those for CPUs are here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from layerwise.core.errors import LayerwiseError


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with each batch norm in it replaced; parameters and buffers are the same objects.

    Args:
        module: changed in place, unless it is a batch norm itself.

    Raises:
        LayerwiseError: on GPUs, a batch norm without a learnt scale.
    """
    if device.type == "cuda":
        if any(isinstance(layer, _BatchNorm) and "weight" in layer._buffers for layer in module.modules()):
            raise LayerwiseError(
                "model.norm_scale=false does not support synchronised batch norms on GPUs. "
                "Use distributed.sync_batchnorm=false, or model.norm_scale=true."
            )
        from timm.layers.norm_act import convert_sync_batchnorm  # slow to import, and needed here only

        return convert_sync_batchnorm(module)  # type: ignore[no-any-return]
    if isinstance(module, _BatchNorm):
        return SyncedBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, synchronised(child, device))
    return module


class SyncedBatchNorm(_BatchNorm):
    """A batch norm whose statistics in training are those of all processes' samples together.

    Args:
        norm: which it stands for; what it holds (timm's: an activation) is applied behind it, as there.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        for name, child in norm.named_children():
            self.add_module(name, child)
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        y = self._normalise(x) if self.training else super().forward(x)
        for child in self.children():
            y = child(y)
        return y

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (PyTorch's name)
        """Any [B, C, …]."""

    def _normalise(self, x: Tensor) -> Tensor:
        """[B, C, …] in the format of x."""
        weight = self.weight if self.affine else x.new_ones(x.shape[1], dtype=torch.float32)
        bias = self.bias if self.affine else torch.zeros_like(weight)
        y, mean, variance = _Normalise.apply(x, weight, bias, self.eps)
        self._track(mean, variance)
        normalised: Tensor = y
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class _Normalise(torch.autograd.Function):
    """x̂ · weight + bias, with the mean and the unbiased variance of all processes' samples.

    All passes over the activations are PyTorch's kernels for batch norms, which for bfloat16 are many times quicker
    than reductions and products of our own; between them the processes exchange a few numbers per channel.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, n = _statistics_of_all(x)
        context.save_for_backward(x, weight, mean, variance)
        context.n, context.eps = n, eps
        y = batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        unbiased = variance * (n / (n - 1))
        context.mark_non_differentiable(mean, unbiased)
        return y, mean, unbiased

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance = context.saved_tensors
        # as if mean and variance were constants: dx = dy · weight · σ⁻¹, and this process's Σ dy · x̂ and Σ dy
        dx, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, context.eps, [True, True, True]
        )
        sums = torch.stack([d_weight, d_bias])
        dist.all_reduce(sums)  # the losses of all processes depend on these statistics
        slope, offset = sums * weight * torch.rsqrt(variance + context.eps) / context.n
        dx = dx - batch_norm(x, mean, variance, slope, offset, training=False, eps=context.eps)
        return dx, d_weight, d_bias, None


def _statistics_of_all(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance [C] float32 of all processes' [B, C, …], and the number of values of a channel."""
    own_mean, own_variance = torch.batch_norm_update_stats(
        x, torch.zeros(x.shape[1]), torch.ones(x.shape[1]), momentum=0.0
    )
    own = torch.cat([own_mean, own_variance, torch.tensor([float(x.numel() // x.shape[1])])])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    means, variances, counts = torch.stack(parts).split([x.shape[1], x.shape[1], 1], dim=1)
    n = counts.sum()
    mean = (counts * means).sum(0) / n
    # a difference of squares would lose digits
    variance = (counts * (variances + (means - mean).square())).sum(0) / n
    return mean, variance, n.item()
