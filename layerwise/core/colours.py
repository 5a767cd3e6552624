"""Colours beyond those of a palette: as many as are asked for, and never twice the same."""

from __future__ import annotations

import colorsys

GOLDEN = 0.618033988749895
"""Part of the circle of hues between one colour and the next: no two of a hundred come close to each other."""


def further_colour(number: int) -> str:
    """Returns `#rrggbb` of middle lightness, which is seen on white and on black."""
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN % 1, (0.42, 0.55)[number % 2], 0.6)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
