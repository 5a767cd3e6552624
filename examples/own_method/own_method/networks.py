"""A residual network as a list of blocks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + ReLU(BN(W x)); where it widens or halves the resolution, ReLU(BN(W x))."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.path = nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
        self.residual = channels == width and stride == 1

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, width, H / stride, W / stride]
        return x + self.path(x) if self.residual else self.path(x)


def residual(shape: tuple[int, ...], J: int = 4, width: int = 32, halve: Sequence[int] = ()) -> list[nn.Module]:
    """J blocks of one width, those in `halve` with stride 2."""
    channels = [shape[0]] + [width] * J
    return [ResidualBlock(channels[j - 1], width, 2 if j in halve else 1) for j in range(1, J + 1)]
