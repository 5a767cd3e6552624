"""Augmentation of uint8 batches on the device, as a function of given random bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layerwise.counters import below


@dataclass(frozen=True)
class CropFlip:
    """Random crop of the zero-padded image, then a horizontal flip of every second one.

    With padding 4 this is the augmentation of the paper's code on CIFAR-10: pixels are padded with
    0 (black) before they are normalised, all 9×9 offsets are equally likely, and so are both
    orientations.
    """

    padding: int
    flip: bool

    def __call__(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """Args: pixels: uint8 [B, H, W, C]. draws: random bits, int64 [B]. Returns: uint8 [B, H, W, C]."""
        offsets = 2 * self.padding + 1
        down = below(draws, offsets, lane=0) - self.padding  # [B] in −padding … padding
        right = below(draws, offsets, lane=1) - self.padding
        mirrored = (below(draws, 2, lane=2) * int(self.flip)).bool()
        return shift_and_mirror(pixels, down, right, mirrored)


def shift_and_mirror(pixels: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Image b of the result shows `pixels[b, y + down[b], x + right[b]]`, black outside, then mirrored.

    Args:
        pixels: uint8 [B, H, W, C].
        down, right: int64 [B].
        mirrored: bool [B].
    """
    batch, height, width, channels = pixels.shape
    x = torch.arange(width, device=pixels.device)
    columns = torch.where(mirrored[:, None], width - 1 - x, x) + right[:, None]  # [B, W]
    rows = torch.arange(height, device=pixels.device) + down[:, None]  # [B, H]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    images = torch.arange(batch, device=pixels.device)
    source = (images[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]  # [B, H, W]
    gathered = pixels.reshape(-1, channels).index_select(0, source.view(-1)).view(pixels.shape)
    return gathered * inside[..., None]
