"""Data sets of image files: `dataset=imagenet`, `dataset=imagenette` and `dataset=imagefolder`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from layerwise.config.datasets.images import ImagesConfig
from layerwise.config.groups import WHERE
from layerwise.config.outside import Outside
from layerwise.core.errors import LayerwiseError

if TYPE_CHECKING:  # torch
    from layerwise.data.reader import Reader


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

    def _options(self) -> dict[str, Any]:
        """Arguments of all readers of image files.

        Raises:
            LayerwiseError: there is no resolution.
        """
        if self.size is None:
            raise LayerwiseError(f"dataset.size: {self.name} needs a resolution in pixels, such as dataset.size=64.")
        options = {"root": Path(self.root), "size": self.size, "exif": self.exif, "workers": self.workers}
        return {**options, "skip_unreadable": self.unreadable is Unreadable.skip}


@dataclass
class ImageNetConfig(ImageFilesConfig):
    """The keys of conf/dataset/imagenet.yaml."""

    like_imagenet: ClassVar[bool] = True

    def reader(self, function: Outside | None) -> Reader:
        from layerwise.data.images.imagenet import SETS  # with torchvision, which is slow to import

        return SETS[self.name](**self._options())


@dataclass
class ImagenetteConfig(ImageNetConfig):
    """The keys of conf/dataset/imagenette.yaml."""

    root_is_data: ClassVar[bool] = True


@dataclass
class ImageFolderConfig(ImageFilesConfig):
    """The keys of conf/dataset/imagefolder.yaml."""

    root_is_data: ClassVar[bool] = True

    test: float = 0.2

    def reader(self, function: Outside | None) -> Reader:
        from layerwise.data.images.imagefolder import ImageFolder

        return ImageFolder(**self._options(), test=self.test)
