"""The data sets that `dataset` can be, by their names."""

from layerwise.config.datasets.base import DatasetConfig
from layerwise.config.datasets.files import ImageFilesConfig, ImageFolderConfig, ImagenetteConfig
from layerwise.config.datasets.images import ImagesConfig, SignsConfig
from layerwise.config.datasets.own import OwnConfig
from layerwise.config.datasets.table import TableConfig
from layerwise.config.datasets.vectors import BlobsConfig

__all__ = ["DATASETS", "DatasetConfig"]

DATASETS: dict[str, type[DatasetConfig]] = {
    **dict.fromkeys(("cifar10", "cifar100", "fashion_mnist", "stl10"), ImagesConfig),
    **dict.fromkeys(("digits", "mnist", "svhn"), SignsConfig),
    "imagenet": ImageFilesConfig,
    "imagenette": ImagenetteConfig,
    "imagefolder": ImageFolderConfig,
    "blobs": BlobsConfig,
    "table": TableConfig,
    "own": OwnConfig,
}
