"""One encoded image to pixels: torchvision decodes JPEG, Pillow everything else.

torchvision's other native decoders trust their input: a PNG file with one flipped byte can end the process. Pillow
checks the bytes first, and its errors can be caught.
"""

from __future__ import annotations

import stat
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision import io
from torchvision.transforms.v2 import functional as transforms

JPEG_START = b"\xff\xd8\xff"

FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "TGA"),
    *("TIFF", "WEBP"),
)
"""What Pillow may open. Others are no formats of photographs, or start an external program (EPS)."""


class UnreadableImage(Exception):
    """An image that no decoder reads; the text says why, in one line."""


def read_file(path: str) -> Tensor:
    """Returns the content of a file, uint8 [bytes].

    Raises:
        UnreadableImage: it cannot be read, or is a pipe or a device, which could block for ever.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise UnreadableImage("it is no regular file")
        return torch.from_numpy(np.fromfile(path, dtype=np.uint8))
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


def decode(image: str | Tensor, exif: bool = False) -> Tensor:
    """Returns the colours of an image, uint8 [3, H, W]; of an animation those of its first frame.

    Transparency is dropped. Grey levels of 16 bits become 8 bits, and so do floats in [0, 1].

    Args:
        image: path of a file, or the content of one, uint8 [bytes].
        exif: turns and mirrors the image as its EXIF orientation says; else the pixels stay as they are stored, but
            for TIFF, where the orientation is a part of the format and not of EXIF.

    Raises:
        UnreadableImage: absent, damaged, of an unknown format, or with values whose range is not known.
    """
    encoded = read_file(image) if isinstance(image, str) else image
    start = encoded[:512].numpy().tobytes()
    decoded = _decode_jpeg(encoded, exif) if start.startswith(JPEG_START) else None
    return _decode_with_pillow(encoded, start, exif) if decoded is None else decoded


def _decode_jpeg(encoded: Tensor, exif: bool) -> Tensor | None:
    """None for what torchvision refuses, or where torchvision has no decoder."""
    if not hasattr(io, "decode_image"):  # deprecated since torchvision 0.29
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The image decoding and encoding capabilities", DeprecationWarning)
        try:
            image: Tensor = io.decode_image(encoded, io.ImageReadMode.RGB, apply_exif_orientation=exif)
        except RuntimeError:
            return None
    return image


def _decode_with_pillow(encoded: Tensor, start: bytes, exif: bool) -> Tensor:
    if problem := _foreign_content(start):
        raise UnreadableImage(problem)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata and about sizes that are no attack here
            with Image.open(BytesIO(encoded.numpy().data), formats=_known_formats()) as file:
                image = _upright(file) if exif else file
                colours: Tensor = transforms.pil_to_tensor(grey_or_colours(image, file.format).convert("RGB"))
                return colours
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("it is no image, or of an unknown format") from error
    except Exception as error:  # Pillow passes on OSError, SyntaxError, ValueError, struct.error, …
        raise UnreadableImage((str(error) or type(error).__name__).splitlines()[0]) from error


def grey_or_colours(image: Image.Image, file_format: str | None = None) -> Image.Image:
    """Returns an image of mode L if it is grey, else of mode RGB.

    Args:
        file_format: of the file that it was read from; by default what the image itself knows.

    Raises:
        UnreadableImage: its values have a range that is not known.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_grey_levels(np.asarray(image), image.mode, file_format or image.format).numpy())
    return image if image.mode == "L" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """As the EXIF orientation says; where the metadata are damaged as it is, like JPEG by torchvision."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # if it is the pixels, they cannot be converted either
        return image


@cache
def _known_formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF is missing from older versions


def _grey_levels(values: NDArray[Any], mode: str, file_format: str | None) -> Tensor:
    """Returns grey levels uint8 [H, W] of an image with more than 8 bits.

    Pillow's own conversion clips 16-bit grey and floats to 0 … 255, which makes them white or black.

    Raises:
        UnreadableImage: 32-bit integers or floats whose range is not known, or 8-bit values kept in 16 bits.
    """
    low, high = float(values.min()), float(values.max())
    if mode.startswith("I;16") or (
        mode == "I" and file_format in ("PNG", "PPM")
    ):  # of 16 bits, which older versions of Pillow call "I"
        if 0 < high < 4096:  # of cameras with 10 or 12 bits, or with 8
            left = f"leave {int(high) // 256 + 1} grey levels" if high >= 256 else "all be black"
            raise UnreadableImage(f"its 16-bit values up to {high:g} of 65535 would {left}; save it with 8 bits")
        return torch.from_numpy((values.astype(np.int32) >> 8).astype(np.uint8))
    if mode == "F" and 0 <= low <= high <= 1:
        return torch.from_numpy((values * 255.0).round().astype(np.uint8))
    if mode != "F" and 0 <= low <= high <= 255:
        return torch.from_numpy(values.astype(np.uint8))
    kind, known = ("32-bit floats", "[0, 1]") if mode == "F" else ("32-bit integers", "0 to 255")
    raise UnreadableImage(f"its {kind} from {low:g} to {high:g} are not in {known}; save it with 8 or 16 bits")


def _foreign_content(start: bytes) -> str:
    """What a file is that only has the name of an image; empty if that is not known."""
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer and not the image itself; run git lfs pull"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml", b"<svg")):
        return "it is an HTML or XML page and no image; download it again"
    return ""
