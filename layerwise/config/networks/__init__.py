"""The networks that `model` can be, by its value."""

from layerwise.config.networks.base import NetworkConfig, ResolvedNetwork
from layerwise.config.networks.mlp import MlpConfig
from layerwise.config.networks.own import OwnConfig
from layerwise.config.networks.resnet_cifar import ResNetCifarConfig
from layerwise.config.networks.simcnn import SimCnnConfig
from layerwise.config.networks.timm import TimmConfig
from layerwise.config.networks.vgg import AlexNetConfig, VggConfig

__all__ = ["NETWORKS", "NetworkConfig", "ResolvedNetwork"]

NETWORKS: dict[str, type[NetworkConfig]] = {
    "simcnn": SimCnnConfig,
    "vgg": VggConfig,
    "alexnet": AlexNetConfig,
    "timm": TimmConfig,
    "resnet_cifar": ResNetCifarConfig,
    "mlp": MlpConfig,
    "own": OwnConfig,
}
