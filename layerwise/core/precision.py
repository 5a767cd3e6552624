"""Number formats and devices: resolve `precision=auto` and `device=auto` on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from layerwise.core.choices import PrecisionName
from layerwise.core.distributed import ALONE, Place
from layerwise.core.errors import LaunchError, LayerwiseError
from layerwise.core.machine import cpu_multiplies_bf16

_DTYPES = {
    PrecisionName.fp32: torch.float32,
    PrecisionName.bf16: torch.bfloat16,
    PrecisionName.fp16: torch.float16,
}


@dataclass(frozen=True)
class Precision:
    """Format of the operands of convolutions and matrix products.

    Weights, batch-norm statistics and losses stay in float32.
    """

    dtype: torch.dtype
    device_type: str

    @property
    def name(self) -> str:
        """Name of the format, such as `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[None]:
        """Context for forward passes; a no-op for float32."""
        if self.dtype == torch.float32:
            return nullcontext()  # a disabled autocast costs as much as a small layer
        return torch.autocast(self.device_type, self.dtype)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for float16; a no-op for other formats."""
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)


def choose_device(name: str, here: Place = ALONE) -> torch.device:
    """Resolve the key `device`. `auto` is a GPU if there is one; each process gets a GPU of its own.

    Raises:
        LayerwiseError: the name is unknown, or the machine has no such GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and here.ranks > 1:
        if here.local_rank >= torch.cuda.device_count():
            raise LaunchError(
                f"device=cuda: {here.local_ranks} processes were started on a machine with {torch.cuda.device_count()} "
                "GPU(s), but each needs one. Start fewer (--nproc_per_node), or use device=cpu."
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
        raise LayerwiseError(f"device={name}: PyTorch finds no CUDA GPU. Use device=cpu or device=auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LayerwiseError(f"device={name}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0.")
    return device


def has_bf16_units(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself (emulated bfloat16 is slower than float32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_multiplies_bf16()


def choose_precision(name: PrecisionName, device: torch.device) -> Precision:
    """Resolve the key `precision`. `auto` is bfloat16 if the hardware has it, else float32."""
    if name is PrecisionName.auto:
        name = PrecisionName.bf16 if has_bf16_units(device) else PrecisionName.fp32
    return Precision(_DTYPES[name], device.type)
