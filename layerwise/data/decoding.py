"""One image file to pixels: torchvision's decoder, and Pillow for what that one refuses."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import io
from torchvision.transforms.v2 import functional as transforms


class UnreadableImage(Exception):
    """A file that no decoder reads; the text says why, in one line."""


def decode(path: str) -> Tensor:
    """The colours of an image file, uint8 [3, H, W].

    Raises:
        UnreadableImage: absent, damaged, or of a format that neither torchvision nor Pillow knows.
    """
    image = _by_torchvision(path)
    return _by_pillow(path) if image is None else image


def _by_torchvision(path: str) -> Tensor | None:
    """None for what it refuses (TIFF, BMP, …), for what is no 8-bit still image, or where torchvision has none."""
    if not hasattr(io, "decode_image"):  # deprecated since torchvision 0.29
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The image decoding and encoding capabilities", DeprecationWarning)
        try:
            image: Tensor = io.decode_image(path, io.ImageReadMode.RGB)
        except RuntimeError:
            return None
    return image if image.dtype == torch.uint8 and image.dim() == 3 else None


def _by_pillow(path: str) -> Tensor:
    try:
        with Image.open(path) as file:
            if file.mode.startswith("I"):  # 16-bit grey, which `convert` would clip instead of scale
                grey = torch.from_numpy(np.asarray(file).astype(np.int32) >> 8).to(torch.uint8)
                return grey.expand(3, -1, -1)
            image: Tensor = transforms.pil_to_tensor(file.convert("RGB"))
            return image
    except Exception as error:  # Pillow passes on OSError, SyntaxError, ValueError, struct.error, …
        raise UnreadableImage((str(error) or type(error).__name__).splitlines()[0]) from error
