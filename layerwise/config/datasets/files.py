"""Data sets of image files: `dataset=imagenet`, `dataset=imagenette` and `dataset=imagefolder`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from layerwise.config.datasets.images import ImagesConfig
from layerwise.config.groups import WHERE


class Unreadable(Enum):
    """Values of `dataset.unreadable`."""

    fatal = "fatal"
    skip = "skip"


@dataclass
class ImageFilesConfig(ImagesConfig):
    """The keys of conf/dataset/base_files.yaml."""

    size: int | None = None
    workers: int | None = field(default=None, metadata=WHERE)
    unreadable: Unreadable = Unreadable.fatal
    exif: bool = False


@dataclass
class ImagenetteConfig(ImageFilesConfig):
    """The keys of conf/dataset/imagenette.yaml."""

    root_is_data: ClassVar[bool] = True


@dataclass
class ImageFolderConfig(ImageFilesConfig):
    """The keys of conf/dataset/imagefolder.yaml."""

    root_is_data: ClassVar[bool] = True

    test: float = 0.2
