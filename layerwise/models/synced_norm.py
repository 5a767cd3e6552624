"""Batch norms that see the batches of all processes, so that their number changes no result.

On GPUs these are PyTorch's own (with timm's care for norms that hold an activation). PyTorch's work on
GPUs only, so those for CPUs are here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with each batch norm in it replaced; parameters and buffers are the same objects.

    Args:
        module: changed in place, unless it is a batch norm itself.
        device: what it will run on.
    """
    if device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm  # slow to import, and needed here only

        return convert_sync_batchnorm(module)  # type: ignore[no-any-return, no-untyped-call]
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
        """[B, C, …] in the format of x; two passes, since a difference of squares loses digits."""
        shape = [1, -1] + [1] * (x.dim() - 2)
        others = [axis for axis in range(x.dim()) if axis != 1]
        values = x.float()
        n = torch.tensor(float(x.numel() // x.shape[1]))
        dist.all_reduce(n)
        mean = _SumOverProcesses.apply(values.sum(others)) / n  # [C]
        centred = values - mean.view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(others)) / n  # [C]
        self._track(mean.detach(), variance.detach() * (n / (n - 1)))
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        normalised: Tensor = y.to(x.dtype)
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


class _SumOverProcesses(torch.autograd.Function):
    """Σ over the processes; so is its gradient, since each process has a loss that depends on the sum."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
