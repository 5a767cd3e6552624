"""A data set of images that needs no file."""

from __future__ import annotations

import torch
from torch import Tensor

from layerwise.data.own import Samples

CLASSES = ("horizontal", "vertical", "diagonal")


def bars(samples: int = 600, side: int = 8, noise: float = 0.3) -> Samples:
    """Noisy grey images of one bar in one of three directions; a third as many to test on."""
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(n) % len(CLASSES)
        places = torch.randint(0, side, (n,), generator=generator)
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        along = torch.stack(
            [rows.expand(n, -1, -1), columns.expand(n, -1, -1), ((rows - columns) % side).expand(n, -1, -1)]
        )
        bar = along[labels, torch.arange(n)] == places[:, None, None]  # [N, H, W]
        grey = bar + noise * torch.randn(n, side, side, generator=generator)
        return (grey.clamp(0, 1) * 255).to(torch.uint8)[..., None], labels  # uint8 [N, H, W, 1], int64 [N]

    return Samples(draw(samples), draw(samples // 3), classes=CLASSES)
