"""One encoded image to pixels: torchvision's decoder, and Pillow for what that one refuses."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import io
from torchvision.transforms.v2 import functional as transforms


class UnreadableImage(Exception):
    """An image that no decoder reads; the text says why, in one line."""


def read_file(path: str) -> Tensor:
    """The content of a file, uint8 [bytes].

    Raises:
        UnreadableImage: it cannot be read.
    """
    try:
        return torch.from_numpy(np.fromfile(path, dtype=np.uint8))
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


def decode(image: str | Tensor) -> Tensor:
    """The colours of an image, uint8 [3, H, W].

    Args:
        image: path of a file, or the content of one, uint8 [bytes].

    Raises:
        UnreadableImage: absent, damaged, or of a format that neither torchvision nor Pillow knows.
    """
    encoded = read_file(image) if isinstance(image, str) else image
    decoded = _by_torchvision(encoded)
    return _by_pillow(encoded) if decoded is None else decoded


def _by_torchvision(encoded: Tensor) -> Tensor | None:
    """None for what it refuses (TIFF, BMP, …), for what is no 8-bit still image, or where torchvision has none."""
    if not hasattr(io, "decode_image"):  # deprecated since torchvision 0.29
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The image decoding and encoding capabilities", DeprecationWarning)
        try:
            image: Tensor = io.decode_image(encoded, io.ImageReadMode.RGB)
        except RuntimeError:
            return None
    return image if image.dtype == torch.uint8 and image.dim() == 3 else None


def _by_pillow(encoded: Tensor) -> Tensor:
    try:
        with Image.open(BytesIO(encoded.numpy().data)) as file:
            if file.mode.startswith("I"):  # 16-bit grey, which `convert` would clip instead of scale
                grey = torch.from_numpy(np.asarray(file).astype(np.int32) >> 8).to(torch.uint8)
                return grey.expand(3, -1, -1)
            image: Tensor = transforms.pil_to_tensor(file.convert("RGB"))
            return image
    except Exception as error:  # Pillow passes on OSError, SyntaxError, ValueError, struct.error, …
        raise UnreadableImage((str(error) or type(error).__name__).splitlines()[0]) from error
