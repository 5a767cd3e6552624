"""Number formats in which features are stored."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from layerwise.core.types import Shape
from layerwise.features.choices import FeatureDtype

_LEVELS = 255


@dataclass(frozen=True)
class FeatureCodec:
    """Encodes features [B, C, H, W], [B, N, C] or [B, F] as arrays with a row per sample, and decodes them.

    Feature maps are stored as [B, H, W, C], so that decoding gives channels_last without a copy. `uint8` stores each
    channel of each sample (or each vector) in 256 levels between its own minimum and maximum: nothing is clipped, and
    the scale needs no pass over the data.
    """

    dtype: FeatureDtype

    def encode(self, features: Tensor) -> dict[str, Tensor]:
        """Returns arrays [B, …] on the device of the features."""
        rows = features.permute(0, 2, 3, 1) if features.dim() == 4 else features  # channels last
        if self.dtype is not FeatureDtype.uint8:
            return {"values": rows.to(getattr(torch, self.dtype.value)).contiguous()}
        rows = rows.float()
        positions = (1, 2) if rows.dim() == 4 else (1,)
        low, high = rows.amin(positions, keepdim=True), rows.amax(positions, keepdim=True)  # [B, 1, 1, C]
        step = (high - low) / _LEVELS
        levels = ((rows - low) / step.clamp_min(torch.finfo(torch.float32).tiny)).round()
        return {"values": levels.to(torch.uint8).contiguous(), "low": low.contiguous(), "step": step.contiguous()}

    def decode(self, arrays: dict[str, Tensor]) -> Tensor:
        """Returns the features of the arrays, up to the rounding of the format."""
        rows = arrays["values"]
        if self.dtype is FeatureDtype.uint8:
            rows = rows * arrays["step"] + arrays["low"]
        return rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def bytes_per_sample(self, shape: Shape) -> int:
        """Returns the stored bytes of one sample's features of shape (C, H, W), (N, C) or (F,)."""
        if self.dtype is FeatureDtype.uint8:
            scales = {3: shape[0], 2: shape[-1]}.get(len(shape), 1)
            return prod(shape) + 2 * 4 * scales
        return int(prod(shape) * getattr(torch, self.dtype.value).itemsize)

    def is_exact_for(self, computed: torch.dtype) -> bool:
        """Returns whether features that were computed in a number format are stored without loss."""
        return self.dtype is FeatureDtype.float32 or getattr(torch, self.dtype.value) == computed
