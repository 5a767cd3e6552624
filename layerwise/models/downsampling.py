"""The downsampling operator P of a block (paper, section 4.1 and its ablation).

Each operator halves the resolution. The invertible one moves 2×2 pixels into channels (×4), so that
nothing is lost; `stride` lets the convolution itself step by 2; `average` and `max` pool.
"""

from __future__ import annotations

from torch import nn

from layerwise.models.choices import Downsampling


def downsample_and_convolve(
    in_channels: int, out_channels: int, downsampling: Downsampling | None, bias: bool
) -> list[nn.Module]:
    """The linear part W P of a block: [B, in, H, W] → [B, out, H, W], or [B, out, H/2, W/2].

    Args:
        downsampling: the operator P, or None for the identity.
        bias: whether the convolution has one (it is useless before a batch norm).
    """
    operator: list[nn.Module] = []
    stride = 1
    if downsampling is Downsampling.invertible:
        operator = [nn.PixelUnshuffle(2)]  # [B, C, H, W] → [B, 4C, H/2, W/2]
        in_channels = 4 * in_channels
    elif downsampling is Downsampling.average:
        operator = [nn.AvgPool2d(2)]
    elif downsampling is Downsampling.max:
        operator = [nn.MaxPool2d(2)]
    elif downsampling is Downsampling.stride:
        stride = 2
    return [*operator, nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)]
