"""The data sets that `dataset` can be, by their names."""

from layerwise.config.datasets.base import DatasetConfig
from layerwise.config.datasets.files import ImageFolderConfig, ImageNetConfig, ImagenetteConfig
from layerwise.config.datasets.images import DigitsConfig, TorchvisionConfig, TorchvisionSignsConfig
from layerwise.config.datasets.own import OwnConfig
from layerwise.config.datasets.table import TableConfig
from layerwise.config.datasets.vectors import BlobsConfig

__all__ = ["DATASETS", "DatasetConfig"]

DATASETS: dict[str, type[DatasetConfig]] = {
    **dict.fromkeys(("cifar10", "cifar100", "fashion_mnist", "stl10"), TorchvisionConfig),
    **dict.fromkeys(("mnist", "svhn"), TorchvisionSignsConfig),
    "digits": DigitsConfig,
    "imagenet": ImageNetConfig,
    "imagenette": ImagenetteConfig,
    "imagefolder": ImageFolderConfig,
    "blobs": BlobsConfig,
    "table": TableConfig,
    "own": OwnConfig,
}
