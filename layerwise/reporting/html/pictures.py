"""Tensors as pictures that stand in a page."""

from __future__ import annotations

import base64
import io

import torch
from PIL import Image
from torch import Tensor


def data_uri(image: Tensor) -> str:
    """A PNG of an image [H, W] or [H, W, C] uint8 (C = 1 or 3), as the address of an <img>."""
    content = io.BytesIO()
    pixels = image.squeeze(-1) if image.dim() == 3 and image.shape[-1] == 1 else image
    Image.fromarray(pixels.numpy()).save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def filter_pictures(filters: Tensor) -> list[Tensor]:
    """Filters [M, C, h, w] as images [h, w, C] uint8; zero is mid-grey, and all have one scale."""
    scale = filters.abs().max().clamp(min=1e-12)
    pixels = (filters / scale * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1))
