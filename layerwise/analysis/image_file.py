"""One image file as the held-out images of a data set are prepared."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.data.images import imagenet
from layerwise.data.images.decoding import UnreadableImage, decode
from layerwise.data.images.encoded import Cut


def read_image(spec: DatasetSpec, path: Path) -> Tensor:
    """An image file at the resolution and in the colours that a data set has.

    An image of that size stays as it is. The short side of others is resized and the centre cut out, of ImageNet and
    Imagenette a little inside the edge, as for their evaluation. Colours become grey where the data set is.

    Args:
        spec: of a data set of images.
        path: of the file.

    Returns:
        uint8 [C, H, W].

    Raises:
        LayerwiseError: absent, or not an image that can be decoded.
    """
    try:
        image = decode(str(path))
    except UnreadableImage as error:
        raise LayerwiseError(f"{path} cannot be decoded ({error}). Give image files, such as PNG or JPEG.") from error
    if spec.shape[0] == 1:  # the weights add up to 0.9999: rounded, a grey pixel keeps its value
        image = transforms.rgb_to_grayscale(image.float()).round().byte()
    size = spec.shape[1]
    cut = imagenet.evaluation_cut(size) if spec.name in imagenet.NAMES else Cut(size, short_side=size)
    return cut.centre(image)
