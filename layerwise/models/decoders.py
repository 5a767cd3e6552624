"""Linear decoders: from block outputs x_j back to the network's input x_0, for reconstruction."""

from __future__ import annotations

from math import prod

from torch import nn

from layerwise.core.errors import LayerwiseError
from layerwise.core.types import Shape


def linear_decoder(shape: Shape, input_shape: Shape) -> nn.Sequential:
    """A linear map from x_j to x_0.

    Vectors are mapped by a matrix. Feature maps are mapped by a 3×3 convolution whose channels are then
    spread over the positions that downsampling took away.

    Args:
        shape: of x_j, (C, H, W) or (F,).
        input_shape: of x_0.

    Returns:
        [B, *shape] → [B, *input_shape].

    Raises:
        LayerwiseError: the resolution of x_0 is not a whole multiple of that of x_j.
    """
    if len(shape) == 1:
        return nn.Sequential(nn.Linear(shape[0], prod(input_shape)), nn.Unflatten(1, input_shape))
    channels, height, width = input_shape
    factor = height // shape[1]
    if (shape[1] * factor, shape[2] * factor) != (height, width):
        raise LayerwiseError(
            f"plan=autoencoder: a decoder from {shape[1]}×{shape[2]} positions cannot give images of {height}×{width} "
            "pixels, which are no whole multiple. Choose another resolution or other downsampled blocks."
        )
    return nn.Sequential(
        nn.Conv2d(shape[0], channels * factor**2, 3, padding=1),
        nn.PixelShuffle(factor),
    )
