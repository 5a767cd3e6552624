"""The highest rates of this machine: no time can be shorter than work divided by these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.steps import seconds_of, take_turns
from layerwise.core.precision import has_bf16_units

SIDES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
"""Of the square matrices that are tried; larger ones on a device that needs them to be busy."""

COPIED_BYTES = {"cpu": 2**28, "cuda": 2**32}
"""Much more than a cache holds."""


class Product:
    """Products of two square matrices, written into a third."""

    def __init__(self, side: int, dtype: torch.dtype, device: torch.device) -> None:
        self.operations = 2 * side**3
        self.a, self.b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        self.c = torch.empty_like(self.a)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            torch.mm(self.a, self.b, out=self.c)


def fastest_product(dtype: torch.dtype, device: torch.device, sides: Sequence[int] | None = None) -> Product:
    """Of square products of several sizes the one with the highest rate."""
    products = [Product(side, dtype, device) for side in sides or SIDES[device.type]]
    rates = []
    for product in products:
        product(1)
        rates.append(product.operations / min(seconds_of(lambda p=product: p(1), device) for _ in range(3)))  # type: ignore[misc]
    return products[rates.index(max(rates))]


def measure(
    device: torch.device, sides: Sequence[int] | None = None, copied_bytes: int | None = None
) -> dict[str, Any]:
    """Rate of matrix products (TFLOP/s), and of copying, where a byte is read and written (GB/s).

    Of bfloat16 only where the hardware multiplies it: emulated products of these sizes take minutes each.
    """
    figures: dict[str, Any] = {}
    for dtype in (torch.float32, *([torch.bfloat16] if has_bf16_units(device) else [])):
        product = fastest_product(dtype, device, sides)
        (seconds,) = take_turns([product], rounds=5, steps=2, device=device)
        name = str(dtype).removeprefix("torch.")
        figures[f"{name}_tflops"] = product.operations / seconds / 1e12
        figures[f"{name}_side"] = len(product.a)
    source = torch.ones(copied_bytes or COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy(steps: int) -> None:
        for _ in range(steps):
            target.copy_(source)

    (seconds,) = take_turns([copy], rounds=5, steps=2, device=device)
    return figures | {"memory_gb_s": 2 * len(source) / seconds / 1e9}
