"""Number formats and devices: what `precision=auto` and `device=auto` mean on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum

import torch

from layerwise.core.distributed import ALONE, Place
from layerwise.core.errors import LaunchError, LayerwiseError


class PrecisionName(Enum):
    """Values of `precision`."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


_DTYPES = {
    PrecisionName.fp32: torch.float32,
    PrecisionName.bf16: torch.bfloat16,
    PrecisionName.fp16: torch.float16,
}


@dataclass(frozen=True)
class Precision:
    """Format of the convolutions' and matrix products' operands on a device.

    Weights, batch-norm statistics and losses stay in float32.
    """

    dtype: torch.dtype
    device_type: str

    @property
    def name(self) -> str:
        """`bfloat16`"""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which forward passes run; it does nothing for float32."""
        if self.dtype == torch.float32:
            return nullcontext()  # a disabled autocast costs as much as a small layer
        return torch.autocast(self.device_type, self.dtype)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which float16 needs; for other formats it does nothing."""
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)


def choose_device(name: str, here: Place = ALONE) -> torch.device:
    """The device that `device=…` names; `auto` is the GPU where there is one, and each process has its own.

    Raises:
        LayerwiseError: an unknown name, or a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and here.ranks > 1:
        if here.local_rank >= torch.cuda.device_count():
            raise LaunchError(
                f"device=cuda: {here.local_ranks} processes were started on a machine with "
                f"{torch.cuda.device_count()} GPU(s), one a process. Start fewer (--nproc_per_node), or use device=cpu."
            )
        name = f"cuda:{here.local_rank}"
    elif name.startswith("cuda:") and here.ranks > 1:
        raise LaunchError(f"device={name}: each of {here.ranks} processes needs a GPU of its own. Use device=cuda.")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise LayerwiseError(f"device={name}: unknown device. Known: auto, cpu, cuda, cuda:N.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LayerwiseError(f"device={name}: no CUDA GPU is usable here. Use device=cpu or device=auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LayerwiseError(f"device={name}: this machine has {torch.cuda.device_count()} GPU(s), counted from 0.")
    return device


def has_bf16_units(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively (emulated bfloat16 is slower than float32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_precision(name: PrecisionName, device: torch.device) -> Precision:
    """Resolves `auto`: bfloat16 where the hardware has it, else float32."""
    if name is PrecisionName.auto:
        name = PrecisionName.bf16 if has_bf16_units(device) else PrecisionName.fp32
    return Precision(_DTYPES[name], device.type)
